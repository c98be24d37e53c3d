"""Tests weights with a scale for each channel: where they help, and the command's output and behaviour."""

import numpy as np
import pytest

from bundler.model.calibrate import calibrate, measure_mask
from bundler.model.graph import FitGraph, fit_for_htp
from bundler.model.mask import set_mask_size
from bundler.model.mixed import Measure
from bundler.model.onnx_graph import Net
from bundler.model.quantize import Scheme
from bundler.model.split import GAIN, splitting_pays
from tests import styles

FEEDS = [styles.feed(tokens, seed=seed) for seed, tokens in enumerate((48, 40, 30, 12))]
OTHERS = [styles.feed(tokens, seed=seed + 50) for seed, tokens in enumerate((48, 40, 30, 12))]
LOUD = 100.0  # one of BERT's channels over the others


def layered(loud: float) -> FitGraph:
    """Returns a model with LayerNorm, in whose feed-forward parts one channel is louder than the others."""
    fit = fit_for_htp(styles.styled("ours", norm="layer"), styles.LENGTH)
    net = Net(fit.model)
    for name, value in net.constants.items():
        if value.shape == (2 * styles.HIDDEN, styles.HIDDEN):
            net.constants[name] = value * np.where(np.arange(styles.HIDDEN) == 3, loud, 1).astype(np.float32)
    fit.model.CopyFrom(net.to_model())
    set_mask_size(fit.model, measure_mask(fit, FEEDS))
    return fit


@pytest.mark.parametrize(("loud", "pays"), [(1.0, False), (LOUD, True)])
def test_scales_for_each_channel_where_one_is_louder(loud: float, pays: bool) -> None:
    fit = layered(loud)
    calibration = calibrate(fit, FEEDS)
    assert splitting_pays(fit, calibration, Scheme(8, 16), FEEDS) is pays
    assert splitting_pays(fit, calibration, Scheme(8, 8), FEEDS) is pays
    assert not splitting_pays(fit, calibration, Scheme(16, 16), FEEDS)
    if pays:
        measure = Measure(fit, calibration, OTHERS)
        assert measure.noise(Scheme(8, 16, per_channel=True)) < GAIN * measure.noise(Scheme(8, 16))
