"""Tests operators at 16 bits among others of 8: which are chosen, and that they help."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from bundler.model.calibrate import Calibration, calibrate
from bundler.model.convert import onnx_to_dlc
from bundler.model.fixed_point import reals
from bundler.model.graph import FitGraph, fit_for_htp
from bundler.model.mixed import Measure, choose_wide
from bundler.model.onnx_graph import Net
from bundler.model.quantize import HEADROOM, Scheme, quantize
from bundler.model.residual import MORE_GAIN, attention_of, logits_of, loud_operators, parts_of, rest_of, sums_of
from bundler.soc import DEFAULT, known_socs
from tests import styles
from tests.conftest import quiet
from tests.test_split import FEEDS, LOUD, OTHERS, layered

W8A8 = Scheme(8, 8, per_channel=True)
LITTLE = 0.6


def test_a_part_reaches_from_the_function_to_layernorm() -> None:
    net = Net(layered(1.0).model)
    parts = parts_of(net)
    kinds = [sorted(made.op_type for name in part if (made := net.maker(name)) is not None) for part in parts]
    assert all("LayerNormalization" in kind and "Add" in kind for kind in kinds)
    assert sum("Gelu" in kind for kind in kinds) == 2  # layers
    assert not set.intersection(*map(set, parts))


def test_without_layernorm_sums_and_attention_get_sixteen_bits() -> None:
    fit = fit_for_htp(styles.styled("ours"), styles.LENGTH)
    net, calibration = Net(fit.model), calibrate(fit, FEEDS)
    wide = loud_operators(fit, calibration, W8A8, FEEDS, quiet)
    assert parts_of(net) == []
    assert wide == logits_of(net) | sums_of(net) | attention_of(net)
    measure = Measure(fit, calibration, OTHERS)
    assert measure.noise(replace(W8A8, wide=wide)) < MORE_GAIN * measure.noise(replace(W8A8, wide=logits_of(net)))


def test_logits_above_the_calibrated_ones_are_not_cut_off() -> None:
    fit = fit_for_htp(styles.styled("ours"), styles.LENGTH)
    calibration, wide = calibrate(fit, FEEDS), logits_of(Net(fit.model))
    assert [made.op_type for name in wide if (made := Net(fit.model).maker(name)) is not None] == ["Gemm"]
    largest = max(calibration.full[name][1] for name in ("start_logits", "end_logits"))
    tops = []
    for kept in (frozenset[str](), wide):
        found = quantize(fit, calibration, replace(W8A8, wide=kept)).outputs["start_logits"]
        tops.append(float(reals(np.array(np.iinfo(found.zero_point.dtype).max), found)) / largest)
    assert tops == pytest.approx([1.0, HEADROOM], rel=0.02)


Loud = tuple[FitGraph, Calibration, frozenset[str]]


@pytest.fixture(scope="module")
def loud() -> Loud:
    """Returns a model that gains less than real ones do."""
    fit = layered(LOUD)
    calibration = calibrate(fit, FEEDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bundler.model.residual.GAIN", LITTLE)
        return fit, calibration, loud_operators(fit, calibration, W8A8, FEEDS, quiet)


def test_loud_sums_get_sixteen_bits(loud: Loud, tmp_path: Path) -> None:
    fit, calibration, wide = loud
    parts = parts_of(Net(fit.model))
    assert wide
    assert wide - rest_of(Net(fit.model)) - logits_of(Net(fit.model)) < frozenset[str]().union(*parts)
    for feeds, most in ((FEEDS, LITTLE), (OTHERS, 1.0)):  # four windows promise less of others
        measure = Measure(fit, calibration, feeds)
        assert measure.noise(replace(W8A8, wide=wide)) < most * measure.noise(W8A8)
    onnx.save(quantize(fit, calibration, replace(W8A8, wide=wide)).model, tmp_path / "wide.onnx")
    onnx_to_dlc(tmp_path / "wide.onnx", tmp_path / "wide.dlc", known_socs()[DEFAULT])


def test_mixed_bits_keep_what_has_sixteen_already(loud: Loud) -> None:
    fit, calibration, wide = loud
    assert choose_wide(fit, calibration, replace(W8A8, wide=wide), FEEDS, quiet) >= wide


@pytest.mark.slow
@pytest.mark.parametrize(
    ("style", "part", "expected"),
    [
        ("mobilebert", attention_of, ["MatMul", "MatMul", "Softmax", "Softmax"]),
        ("mobilebert", sums_of, [*["Add"] * 5, *["Mul"] * 4]),
        ("bert", rest_of, [*["Add"] * 5, *["Gemm"] * 2, *["LayerNormalization"] * 5]),
    ],
)
def test_a_part_gets_sixteen_bits_only_where_they_bring_the_logits_nearer(
    style: str,
    part: Callable[[Net], frozenset[str]],
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    fit = fit_for_htp(styles.styled("ours"), styles.LENGTH) if style == "mobilebert" else layered(1.0)
    net, calibration = Net(fit.model), calibrate(fit, FEEDS)
    found = part(net)
    assert sorted(made.op_type for name in found if (made := net.maker(name)) is not None) == expected
    for gain, share in ((0.0, 1.0), (2.0, 0.0), (2.0, 1.0)):
        monkeypatch.setattr("bundler.model.residual.GAIN", gain)
        monkeypatch.setattr("bundler.model.residual.MORE_GAIN", gain)
        monkeypatch.setattr("bundler.model.residual.SHARE", share)
        wide = loud_operators(fit, calibration, W8A8, FEEDS, quiet)
        assert wide >= found if gain * share else wide == logits_of(net)
    onnx.save(quantize(fit, calibration, replace(W8A8, wide=found)).model, tmp_path / "wide.onnx")
    onnx_to_dlc(tmp_path / "wide.onnx", tmp_path / "wide.dlc", known_socs()[DEFAULT])
