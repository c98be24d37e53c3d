"""Tests the compensation of rounding errors between weights: it keeps the products, and the readers of the weights."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from bundler.model import compensate
from bundler.model.calibrate import calibrate
from bundler.model.compensate import compensated, matrices, rounded
from bundler.model.fixed_point import FixedWeights
from bundler.model.graph import FitGraph, fit_for_htp
from bundler.model.mixed import Measure
from bundler.model.onnx_graph import Array, Net
from bundler.model.quantize import Scheme, quantize
from tests import styles
from tests.conftest import quiet
from tests.test_split import OTHERS, layered

FEEDS = [styles.feed(48 - 2 * seed, seed=seed) for seed in range(16)]
W8A16 = Scheme(8, 16, per_channel=True)


def spread_of(inputs: int, *, seed: int = 0) -> Array:
    """Returns the mean products of partly correlated inputs, some of them large."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(4 * inputs, 4)) @ random.normal(size=(4, inputs))
    rows = (rows + 0.3 * random.normal(size=rows.shape)) * random.uniform(0.1, 3, inputs)
    return np.asarray(rows.T @ rows / len(rows))


def lost(matrix: Array, whole: Array, scale: Array, spread: Array) -> float:
    """Returns the mean square of the change that rounding causes in the products."""
    error = matrix - whole * scale
    return float(np.einsum("io,ij,jo->", error, spread, error))


@pytest.mark.parametrize("inputs", [7, compensate.BLOCK, 300])
@pytest.mark.parametrize("per_channel", [False, True])
def test_products_stay_nearer_than_by_rounding_to_the_nearest(inputs: int, per_channel: bool) -> None:
    matrix = np.random.default_rng(1).normal(size=(inputs, 12))
    scale = np.asarray(np.abs(matrix).max(0 if per_channel else None) / 7)
    spread = spread_of(inputs)
    found = rounded(matrix, spread, scale, 4)
    assert np.array_equal(found, np.round(found))
    assert np.abs(found).max() <= 7
    nearest = np.clip(np.round(matrix / scale), -7, 7)
    assert lost(matrix, found, scale, spread) < 0.8 * lost(matrix, nearest, scale, spread)


def test_inputs_that_are_always_zero_are_rounded_to_the_nearest() -> None:
    matrix, scale = np.random.default_rng(1).normal(size=(9, 5)), np.asarray(0.1)
    assert np.array_equal(rounded(matrix, np.zeros((9, 9)), scale, 8), np.round(matrix / scale))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sums_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(np.linalg.LinAlgError):
        rounded(np.ones((3, 2)), np.full((3, 3), value), np.asarray(1.0), 8)


@pytest.mark.parametrize("fit", [layered(1.0), layered(100.0), fit_for_htp(styles.styled("ours"), styles.LENGTH)])
def test_other_windows_logits_come_nearer(fit: FitGraph) -> None:
    calibration = calibrate(fit, FEEDS)
    fixed = compensated(fit, calibration, W8A16, FEEDS, quiet)
    assert len(fixed.weights) == len(matrices(Net(fit.model))) > 8
    measure = Measure(fit, calibration, OTHERS)
    assert measure.noise(W8A16, fixed) < 0.85 * measure.noise(W8A16)
    again = compensated(fit, calibration, W8A16, FEEDS, quiet)
    first, second = (quantize(fit, calibration, W8A16, found).model.SerializeToString() for found in (fixed, again))
    assert first == second


def test_activations_of_eight_bits_do_not_hide_what_it_gains() -> None:
    fit = layered(1.0)
    calibration, coarse = calibrate(fit, FEEDS), replace(W8A16, activation_bits=8)
    fixed = compensated(fit, calibration, coarse, FEEDS, quiet)
    assert len(fixed.weights) == len(matrices(Net(fit.model)))
    judged = Measure(fit, calibration, FEEDS[-4:])
    assert judged.noise(coarse, fixed) > judged.noise(coarse)  # by chance


def test_where_it_does_not_help_weights_are_rounded_to_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = layered(1.0)
    monkeypatch.setattr(compensate, "GAIN", 0.0)
    assert compensated(fit, calibrate(fit, FEEDS), W8A16, FEEDS, quiet) == FixedWeights()
    monkeypatch.setattr(compensate, "GAIN", np.inf)
    assert compensated(fit, calibrate(fit, FEEDS), Scheme(16, 16), FEEDS, quiet) == FixedWeights()


def test_one_window_is_enough_and_little_room_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = layered(1.0)
    calibration = calibrate(fit, FEEDS[:1])
    monkeypatch.setattr(compensate, "GAIN", np.inf)
    at_once = compensated(fit, calibration, W8A16, FEEDS[:1], quiet)
    monkeypatch.setattr(compensate, "ROOM", 1)
    bit_by_bit = compensated(fit, calibration, W8A16, FEEDS[:1], quiet)
    models = [quantize(fit, calibration, W8A16, each).model.SerializeToString() for each in (at_once, bit_by_bit)]
    assert models[0] == models[1]


def graph(*nodes: onnx.NodeProto) -> Net:
    """Returns nodes that read x, two weights (3, 3) w and v, and biases (3,) b and c, and write y."""
    tensor = onnx.helper.make_tensor_value_info
    ends = [tensor(name, onnx.TensorProto.FLOAT, [2, 3]) for name in "xy"]
    net = Net(onnx.helper.make_model(onnx.helper.make_graph(nodes, "model", ends[:1], ends[1:])))
    for name, shape in {"w": (3, 3), "v": (3, 3), "b": (3,), "c": (3,)}.items():
        net.constants[name] = np.ones(shape, np.float32)
    return net


def found_in(net: Net) -> dict[str, tuple[int, str | None]]:
    return {each.name: (len(each.nodes), each.bias) for each in matrices(net)}


def test_a_bias_is_changed_where_it_is_the_matrix_alone_that_it_goes_with() -> None:
    node = onnx.helper.make_node
    added = [node("MatMul", ["x", "w"], ["p"]), node("Add", ["b", "p"], ["y"])]
    assert found_in(graph(*added)) == {"w": (1, "b")}
    inside = [node("Gemm", ["x", "w", "b"], ["p"]), node("Gemm", ["p", "w", "b"], ["y"])]
    assert found_in(graph(*inside)) == {"w": (2, "b")}
    shared = [node("Gemm", ["x", "w", "b"], ["p"]), node("Gemm", ["p", "v", "b"], ["y"])]
    assert found_in(graph(*shared)) == {"w": (1, None), "v": (1, None)}
    two = [node("Gemm", ["x", "w", "b"], ["p"]), node("Gemm", ["p", "w", "c"], ["y"])]
    assert found_in(graph(*two)) == {"w": (2, None)}
    none = [node("MatMul", ["x", "w"], ["p"]), node("Gemm", ["p", "v"], ["y"], alpha=2.0)]
    assert found_in(graph(*none)) == {"w": (1, None)}
