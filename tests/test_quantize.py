"""Tests fixed-point graphs: encodings, shared encodings, calibrated ranges, and operators with 16 bits."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.errors import ModelInvalid
from bundler.model.calibrate import (
    BINS,
    METHODS,
    Calibration,
    _entropy,
    _percentile,
    calibrate,
    measure_mask,
    token_axes,
)  # fmt: skip
from bundler.model.convert import onnx_to_dlc
from bundler.model.fixed_point import asymmetric, squared_error, stored, symmetric
from bundler.model.graph import FitGraph, fit_for_htp
from bundler.model.mask import set_mask_size
from bundler.model.mixed import SHARE, Measure, choose_wide
from bundler.model.onnx_graph import Net
from bundler.model.quantize import HEADROOM, MOVES, Groups, Scheme, quantize
from bundler.soc import DEFAULT, known_socs
from tests import styles
from tests.conftest import quiet
from tests.models import LENGTH, qa_model, random_feed

SCHEMES = {"w8a8": Scheme(8, 8), "w8a16": Scheme(8, 16), "w16a16": Scheme(16, 16)}
FEEDS = [styles.feed(tokens, seed=seed) for seed, tokens in enumerate((48, 40, 30, 12))]


@pytest.fixture(scope="module")
def fit() -> FitGraph:
    made = fit_for_htp(styles.styled("ours"), styles.LENGTH)
    set_mask_size(made.model, measure_mask(made, FEEDS))
    return made


@pytest.fixture(scope="module")
def calibration(fit: FitGraph) -> Calibration:
    return calibrate(fit, FEEDS)


@given(low=st.floats(-1e4, 1e4), width=st.floats(1e-3, 1e4), bits=st.sampled_from([8, 16]))
def test_encodings_hold_zero_and_both_ends(low: float, width: float, bits: int) -> None:
    encoding = asymmetric(low, low + width, bits)
    values = np.array([0.0, low, low + width])
    back = (stored(values, encoding).astype(np.float64) - encoding.zero_point) * encoding.scale
    assert back[0] == 0
    assert np.abs(back - values).max() <= encoding.scale * 1.01


def test_channels_get_scales_of_their_own_where_asked() -> None:
    value = np.array([[0.01, 127.0], [-0.02, 0.0]], np.float32)
    assert squared_error(value, symmetric(value, 8, 1)) < squared_error(value, symmetric(value, 8)) / 4


def test_what_is_only_moved_shares_an_encoding(fit: FitGraph) -> None:
    net = Net(fit.model)
    groups = Groups(net)
    for each in net.ordered():
        if each.op_type in MOVES or each.op_type == "Relu":
            assert groups.of(each.input[0]) == groups.of(each.output[0])
        elif each.op_type == "Gemm":
            assert groups.of(each.input[0]) != groups.of(each.output[0])


def test_sixteen_bits_leave_room_beyond_the_calibrated_range(fit: FitGraph, calibration: Calibration) -> None:
    low, high = calibration.full["start_logits"]
    for name, scheme, room in (("w8a8", SCHEMES["w8a8"], 1.0), ("w8a16", SCHEMES["w8a16"], HEADROOM)):
        encoding = quantize(fit, calibration, scheme).outputs["start_logits"]
        steps = 2 ** (8 if name == "w8a8" else 16) - 1
        assert float(encoding.scale) * steps >= (high - low) * room * 0.999


def test_the_range_of_masked_scores_ends_where_shares_vanish(fit: FitGraph, calibration: Calibration) -> None:
    size = measure_mask(fit, FEEDS)
    for name in fit.masked_scores:
        assert calibration.full[name][0] > -size


def test_more_bits_less_noise(fit: FitGraph, calibration: Calibration) -> None:
    measure = Measure(fit, calibration, FEEDS)
    noise = {name: measure.noise(scheme) for name, scheme in SCHEMES.items()}
    assert noise["w16a16"] < noise["w8a16"] / 10 < noise["w8a8"] / 10
    assert noise["w8a8"] < 0.05
    assert noise["w16a16"] > 0


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_within_what_was_seen(fit: FitGraph, method: str) -> None:
    found = calibrate(fit, FEEDS, method)  # type: ignore[arg-type]
    assert found.ranges.keys() == found.full.keys()
    for name, (low, high) in found.ranges.items():
        assert found.full[name][0] - 1e-6 <= low <= high <= found.full[name][1] + 1e-6
    if method == "min-max":
        assert found.ranges == found.full


def test_the_axes_of_tokens_are_found(fit: FitGraph) -> None:
    axes = token_axes(fit)
    net = Net(fit.model)
    assert fit.masked_scores
    for masked in fit.masked_scores:
        assert axes[masked] == (2, 3)
    for spec in fit.outputs:
        assert axes[spec.name] == (1,)
    for each in net.ordered():
        if each.op_type in ("Gather", "Relu"):
            assert axes[each.output[0]] == (1,)


@pytest.mark.parametrize("hidden", [16, LENGTH])
def test_padding_sets_no_range(hidden: int) -> None:
    """It does not even if the hidden size equals the length."""
    ranges, feed = [], random_feed()
    feed["input_ids"] = np.maximum(feed["input_ids"], feed["attention_mask"])  # 0 is padding only
    for size in (1.0, 3.0):
        made = qa_model(hidden=hidden)
        weights = {each.name: each for each in made.graph.initializer}
        words = onnx.numpy_helper.to_array(weights["words"]).copy()
        words[0] *= size
        weights["words"].CopyFrom(onnx.numpy_helper.from_array(words, "words"))
        weights["penalty"].CopyFrom(onnx.numpy_helper.from_array(np.float32(-1e4), "penalty"))
        ranges.append(calibrate(fit_for_htp(made, LENGTH), [feed]).full)
    assert ranges[0].keys() == ranges[1].keys()
    for name, (low, high) in ranges[0].items():
        assert ranges[1][name] == pytest.approx((low, high), rel=1e-3, abs=1e-3), name


@pytest.mark.parametrize("method", METHODS)
def test_masked_scores_reach_down_where_no_calibration_window_has_padding(method: Any, fit: FitGraph) -> None:
    """Other windows will have padding, which must have no weight there."""
    whole = [styles.feed(styles.LENGTH, seed=seed) for seed in range(3)]
    assert all(feed["attention_mask"].all() for feed in whole)
    found = calibrate(fit, whole, method)
    for name in fit.masked_scores:
        assert found.ranges[name][0] == found.full[name][0] < -12


def test_a_tensor_that_is_not_finite_is_refused(fit: FitGraph) -> None:
    made = qa_model()
    (words,) = (each for each in made.graph.initializer if each.name == "words")
    value = onnx.numpy_helper.to_array(words).copy()
    value[5:] = 3e38
    words.CopyFrom(onnx.numpy_helper.from_array(value, "words"))
    with pytest.raises(ModelInvalid, match="is not finite on the windows to calibrate on"):
        calibrate(fit_for_htp(made, LENGTH), [random_feed()])


def test_outliers_are_cut_off() -> None:
    counts = np.zeros(BINS, np.int64)
    counts[BINS // 2 - 50 : BINS // 2 + 50] = 10_000
    counts[-1] = 1  # one value in a million, far from the rest
    low, high = _percentile(counts, -1.0, 1.0)
    assert low < -0.04
    assert 0.04 < high < 0.1
    assert _entropy(counts, -1.0, 1.0)[0] >= -1.0


def test_wide_operators_are_few_and_help(fit: FitGraph, calibration: Calibration) -> None:
    scheme = SCHEMES["w8a8"]
    wide = choose_wide(fit, calibration, scheme, FEEDS, quiet)
    operators = [each for each in Net(fit.model).ordered() if each.op_type not in MOVES]
    assert len(wide) <= SHARE * len(operators)
    measure = Measure(fit, calibration, FEEDS)
    assert measure.noise(Scheme(8, 8, wide=wide)) <= measure.noise(scheme)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", SCHEMES)
def test_the_htp_takes_it_and_the_bytes_repeat(
    fit: FitGraph, calibration: Calibration, name: str, per_channel: bool, tmp_path: Path
) -> None:
    scheme = Scheme(SCHEMES[name].weight_bits, SCHEMES[name].activation_bits, per_channel)
    for number in range(2):
        onnx.save(quantize(fit, calibration, scheme).model, tmp_path / f"{number}.onnx")
    assert (tmp_path / "0.onnx").read_bytes() == (tmp_path / "1.onnx").read_bytes()
    onnx_to_dlc(tmp_path / "0.onnx", tmp_path / "model.dlc", known_socs()[DEFAULT])
    assert (tmp_path / "model.dlc").stat().st_size > 1000


@pytest.mark.slow
def test_mixed_bits_convert(fit: FitGraph, calibration: Calibration, tmp_path: Path) -> None:
    wide = choose_wide(fit, calibration, SCHEMES["w8a8"], FEEDS, quiet)
    onnx.save(quantize(fit, calibration, Scheme(8, 8, wide=wide)).model, tmp_path / "mixed.onnx")
    onnx_to_dlc(tmp_path / "mixed.onnx", tmp_path / "mixed.dlc", known_socs()[DEFAULT])
