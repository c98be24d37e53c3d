"""Tests the scaling of channels by powers of two: tied channels, unchanged logits, and harmless outliers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.cells import CALIBRATION_SEED, draw_questions
from bundler import layout
from bundler.bundle import ModelRecord, read_bundle
from bundler.bundle.parsing import typed
from bundler.cli import main
from bundler.errors import ModelInvalid
from bundler.evaluation.layers import layers_of
from bundler.model.balance import balanced, levelled
from bundler.model.calibrate import measure_mask
from bundler.model.channels import PINNED, Ties
from bundler.model.equalize import Equalized, equalize, leaves_float16, noise
from bundler.model.graph import FitGraph, fit_for_htp, largest_difference, runner
from bundler.model.half import in_float16
from bundler.model.mask import set_mask_size
from bundler.model.onnx_graph import Net
from bundler.model.quantize import Scheme
from bundler.model.rescale import channels_in, rescaled
from bundler.model.rounding import measure_spans, problem_of
from bundler.qa.features import Windower, load_tokenizer
from bundler.resources import DEMO_MODEL, DEMO_QUESTIONS, DEMO_TOKENIZER
from tests import styles
from tests.conftest import quiet
from tests.models import model, qa_model, write_vocabulary
from tests.outliers import PLACES, disturbed

FEEDS = [styles.feed(tokens, seed=seed) for seed, tokens in enumerate((48, 40, 30, 12))]
OTHERS = [styles.feed(tokens, seed=seed + 50) for seed, tokens in enumerate((48, 44, 40, 36, 30, 22, 16, 12))]
W8A8 = Scheme(8, 8)
TOKENS, WIDTH = 6, 4
node = helper.make_node


def decibels(found: float) -> float:
    return float(-10 * np.log10(found))


def random_exponents(fit: FitGraph, seed: int = 0) -> tuple[int, ...]:
    count = channels_in(fit).count - 1
    return tuple(np.random.default_rng(seed).integers(-3, 4, count).tolist())


@pytest.fixture(scope="module")
def fit() -> FitGraph:
    return fit_for_htp(styles.styled("ours"), styles.LENGTH)


# Ties


def test_labels_share_scales_or_have_reciprocal_ones() -> None:
    ties = Ties()
    a, b, c, d = ties.fresh(4)
    ties.tie(a, b)
    ties.tie(b, c, -1)
    ties.tie(c, d, -1)
    classes, signs = ties.resolved()
    assert classes.tolist() == [PINNED, 1, 1, 1, 1]
    assert (signs[1:] * signs[1]).tolist() == [1, 1, -1, 1]


def test_a_contradiction_pins() -> None:
    ties = Ties()
    a, b, c, free = ties.fresh(4)
    ties.tie(a, b)
    ties.tie(b, c, -1)
    ties.tie(a, c)
    assert ties.resolved()[0].tolist() == [PINNED] * 4 + [1]
    ties.tie(free, free, -1)
    assert not ties.resolved()[0].any()


# Operators: each graph is one of (1, TOKENS, WIDTH) `x` and `y`, channels of two tables, to `out`, which `head` reads

KINDS: dict[str, tuple[list[onnx.NodeProto], int]] = {
    "add": ([node("Add", ["x", "y"], ["out"])], 4),
    "subtract": ([node("Sub", ["x", "y"], ["out"])], 4),
    "add a constant": ([node("Add", ["x", "row"], ["out"])], 4),
    "add a number": ([node("Add", ["number", "x"], ["out"])], 4),
    "multiply by a constant": ([node("Mul", ["row", "x"], ["out"])], 4),
    "divide by a constant": ([node("Div", ["x", "row"], ["out"])], 4),
    "divide a constant": ([node("Div", ["row", "x"], ["out"])], 0),
    "multiply": ([node("Mul", ["x", "y"], ["out"])], 0),
    "relu": ([node("Relu", ["x"], ["out"])], 4),
    "tanh": ([node("Tanh", ["x"], ["out"])], 0),
    "a norm": ([node("LayerNormalization", ["x", "row"], ["out"])], 0),
    "softmax": ([node("Softmax", ["x"], ["out"])], 0),
    "weights": ([node("MatMul", ["x", "square"], ["out"])], 8),
    "weights before": ([node("MatMul", ["tokens", "x"], ["out"])], 0),
    "gemm": ([node("Reshape", ["x", "flat"], ["f"]), node("Gemm", ["f", "square", "row"], ["g"], transB=1, alpha=0.5),
              node("Reshape", ["g", "back"], ["out"])], 8),
    "gemm of two": ([node("Reshape", ["x", "flat"], ["f"]), node("Gemm", ["f", "square", "f"], ["g"]),
                     node("Reshape", ["g", "back"], ["out"])], 4),
    "heads": ([node("Reshape", ["x", "heads"], ["h"]), node("Transpose", ["h"], ["t"], perm=[0, 2, 1, 3]),
               node("Transpose", ["t"], ["u"], perm=[0, 2, 1, 3]), node("Reshape", ["u", "back"], ["out"])], 4),
    "mixed tokens": ([node("Reshape", ["x", "turned"], ["r"]), node("Reshape", ["r", "back"], ["out"])], 4),
    "turned": ([node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("Reshape", ["t", "back"], ["out"])], 1),
    "concat": ([node("Concat", ["x", "y"], ["c"], axis=-1), node("Slice", ["c", "two", "six", "last"], ["out"])], 8),
    "concat tokens": ([node("Concat", ["x", "y"], ["c"], axis=1), node("Slice", ["c", "two", "six", "middle"], ["s"]),
                       node("Pad", ["s", "tail"], ["out"])], 4),
    "split": ([node("Split", ["x", "halves"], ["l", "r"], axis=-1), node("Concat", ["r", "l"], ["c"], axis=2),
               node("Add", ["c", "x"], ["out"])], 2),
    "backwards": ([node("Slice", ["x", "minus", "least", "last", "minus"], ["b"]), node("Add", ["b", "x"], ["out"])],
                  2),
    "padded channels": ([node("Slice", ["x", "two", "six", "last"], ["s"]), node("Pad", ["s", "front"], ["out"])], 4),
    "picked": ([node("Gather", ["x", "picks"], ["out"], axis=2)], 4),
    "squeezed": ([node("Squeeze", ["x", "first"], ["s"]), node("Unsqueeze", ["s", "first"], ["out"])], 4),
    "expanded": ([node("Slice", ["x", "first", "one", "middle"], ["s"]), node("Expand", ["s", "back"], ["out"])], 4),
    "queries and keys": ([node("Transpose", ["y"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"], ["scores"]),
                          node("Softmax", ["scores"], ["shares"]), node("MatMul", ["shares", "y"], ["out"])], 4),
    "a query is its own key": ([node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"], ["scores"]),
                                node("MatMul", ["scores", "y"], ["out"])], 4),
    "values first": ([node("Softmax", ["tokens"], ["shares"]), node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
                      node("MatMul", ["t", "shares"], ["m"]), node("Transpose", ["m"], ["out"], perm=[0, 2, 1])], 4),
}  # fmt: skip
WEIGHTS = {
    "row": np.array([0.5, -2, 3, 1], np.float32), "number": np.float32(0.7),
    "square": np.random.default_rng(1).normal(size=(WIDTH, WIDTH)).astype(np.float32),
    "tokens": np.random.default_rng(2).normal(size=(1, TOKENS, TOKENS)).astype(np.float32),
    "flat": [TOKENS, WIDTH], "back": [1, TOKENS, WIDTH], "heads": [1, TOKENS, 2, 2], "turned": [1, WIDTH, TOKENS],
    "two": [2], "six": [6], "one": [1], "last": [2], "middle": [1], "first": [0], "halves": [2, 2], "minus": [-1],
    "least": [-(2**62)], "tail": [0, 0, 0, 0, 2, 0], "front": [0, 0, 2, 0, 0, 0], "picks": [3, 3, 0, 1],
    "table x": np.random.default_rng(3).normal(size=(9, WIDTH)).astype(np.float32),
    "table y": np.random.default_rng(4).normal(size=(9, WIDTH)).astype(np.float32),
    "head": np.random.default_rng(5).normal(size=(WIDTH, 1)).astype(np.float32),
}  # fmt: skip


def graph_of(nodes: list[onnx.NodeProto], weights: dict[str, Any] | None = None) -> FitGraph:
    """Returns a graph from ids to `logits` (1, TOKENS)."""
    tables = [node("Gather", [f"table {name}", "ids"], [name]) for name in "xy"]
    ends = [node("MatMul", ["out", "head"], ["told"]), node("Squeeze", ["told", "last"], ["logits"])]
    shape = [1, TOKENS]
    made = model(
        [*tables, *nodes, *ends], {"ids": (TensorProto.INT32, shape)}, {"logits": (TensorProto.FLOAT, shape)},
        {**WEIGHTS, **(weights or {})},
    )  # fmt: skip
    return FitGraph("test", onnx.shape_inference.infer_shapes(Net(made).to_model()), ())


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_operator_ties(kind: str) -> None:
    nodes, free = KINDS[kind]
    graph = graph_of(nodes)
    assert channels_in(graph).count - 1 == free
    feed = {"ids": np.array([[0, 3, 8, 1, 5, 3]], np.int32)}
    scaled = rescaled(graph, random_exponents(graph))
    assert largest_difference(graph.model, scaled, [feed])[0] < 1e-5
    assert not free or scaled.model != graph.model
    shapes, before = ({n: v.shape for n, v in Net(g.model).constants.items()} for g in (scaled, graph))
    for name, shape in shapes.items():
        assert name.startswith("number:equalized") or shape == before[name.partition(":equalized")[0]]


def test_a_constant_in_several_places_is_scaled_in_each() -> None:
    nodes = [
        node("MatMul", ["x", "square"], ["a"]), node("MatMul", ["a", "square"], ["b"]), node("Relu", ["b"], ["r"]),
        node("Add", ["r", "row"], ["s"]), node("MatMul", ["s", "square"], ["t"]), node("Add", ["t", "row"], ["out"]),
    ]  # fmt: skip
    graph = graph_of(nodes)
    assert channels_in(graph).count - 1 == 16
    scaled = rescaled(graph, random_exponents(graph))
    feed = {"ids": np.array([[0, 3, 8, 1, 5, 3]], np.int32)}
    assert largest_difference(graph.model, scaled, [feed])[0] < 1e-5
    squares = [name for name, value in Net(scaled.model).constants.items() if value.shape == (WIDTH, WIDTH)]
    assert len(squares) == 3


def test_exponents_of_another_graph_are_refused(fit: FitGraph) -> None:
    with pytest.raises(ValueError, match="3 exponents for 224 classes"):
        rescaled(fit, (1, 2, 3))
    with pytest.raises(ValueError, match="would leave float32"):
        rescaled(fit, (127,) * 112 + (-127,) * 112)


# Whole models


@pytest.mark.parametrize("norm", ["none", "layer", "layer_tanh"])
@pytest.mark.parametrize("mask", styles.MASKS)
def test_logits_stay(mask: str, norm: styles.Norm) -> None:
    made = styles.styled(mask, norm=norm)
    graph = fit_for_htp(made, styles.LENGTH)
    scaled = rescaled(graph, random_exponents(graph))
    difference, largest = largest_difference(graph.model, scaled, styles.feeds_for(made, 48, 20))
    assert difference <= 1e-5 * max(1, largest)
    onnx.checker.check_model(scaled.model)
    assert scaled.masked_scores == graph.masked_scores


def test_what_layer_norm_leaves_free() -> None:
    """Only queries with keys, values and the words' own table are free, nothing of the residual stream."""
    graph = fit_for_htp(styles.styled("ours", norm="layer"), styles.LENGTH)
    assert channels_in(graph).count - 1 == 2 * (styles.HIDDEN * 2) + 8
    found = equalize(disturbed(graph, "values", 1000), FEEDS, W8A8, quiet)
    assert found.exponents
    assert decibels(noise(found.fit, OTHERS, W8A8)) > decibels(noise(graph, OTHERS, W8A8)) - 1.5


@pytest.mark.parametrize("place", PLACES)
def test_outlier_channels_do_no_harm(fit: FitGraph, place: str) -> None:
    spread = disturbed(fit, place, 100)
    assert largest_difference(fit.model, spread, FEEDS)[0] < 1e-3
    found = equalize(spread, FEEDS, W8A8, quiet)
    own, before, after = (decibels(noise(graph, OTHERS, W8A8)) for graph in (fit, spread, found.fit))
    assert before < own - 3
    assert after > own - 1.5
    assert largest_difference(spread.model, found.fit, FEEDS)[0] < 1e-3


def test_what_is_well_is_left_alone(fit: FitGraph) -> None:
    assert equalize(fit, FEEDS, W8A8, quiet) == Equalized(fit)
    assert equalize(fit, FEEDS, None, quiet) == Equalized(fit)
    assert equalize(disturbed(fit, "values", 100), [], W8A8, quiet).exponents == ()


def test_one_window_is_enough(fit: FitGraph) -> None:
    found = equalize(disturbed(fit, "residual", 100), FEEDS[:1], W8A8, quiet)
    assert decibels(noise(found.fit, FEEDS, W8A8)) > decibels(noise(fit, FEEDS, W8A8)) - 2


def test_where_balancing_began_does_not_matter(fit: FitGraph) -> None:
    """The minimum cost is the same, however channels were scaled before."""
    ends = []
    for graph in (fit, disturbed(fit, "feed-forward", 64)):
        channels = channels_in(graph)
        spans = measure_spans(graph, channels, FEEDS)
        exponents = balanced(problem_of(graph, channels, spans), 8, 8)
        scaled = rescaled(graph, np.round(exponents[1:]).astype(int).tolist(), channels)
        ends.append(decibels(noise(scaled, FEEDS, W8A8)))
    assert ends[0] == pytest.approx(ends[1], abs=1)


@pytest.mark.slow
def test_dead_channels_have_no_say(fit: FitGraph) -> None:
    net = Net(disturbed(fit, "residual", 100).model)
    gemms = [each for each in net.ordered() if each.op_type == "Gemm"]
    for each in gemms[:-1]:
        for position, rows in ((1, False), (2, True)):
            value = net.constants[each.input[position]].copy()
            value[..., 5] = 0
            net.connect(each, position, net.add_constant(value, "dead"))
            assert rows or value.ndim == 2
    graph = replace(fit, model=onnx.shape_inference.infer_shapes(net.to_model()))
    channels = channels_in(graph)
    problem = problem_of(graph, channels, measure_spans(graph, channels, FEEDS))
    for exponents in (levelled(problem), balanced(problem, 8, 8)):
        assert np.isfinite(exponents).all()
    found = equalize(graph, FEEDS, W8A8, quiet)
    assert noise(found.fit, FEEDS, W8A8) < 0.1 * noise(graph, FEEDS, W8A8)


def test_weights_out_of_all_proportion_are_left_alone(fit: FitGraph) -> None:
    """Uses a graph whose numbers overflow in the computation of costs: no exponents, and no failure."""
    net = Net(fit.model)
    each = next(each for each in net.ordered() if each.op_type == "Gemm")
    value = net.constants[each.input[1]].copy()
    value[0, 0] = 3e38
    net.connect(each, 1, net.add_constant(value, "huge"))
    graph = replace(fit, model=onnx.shape_inference.infer_shapes(net.to_model()))
    assert isinstance(equalize(graph, FEEDS[:1], W8A8, quiet), Equalized)


# float16


def test_a_weight_that_float16_lacks_is_no_reason_to_refuse(fit: FitGraph) -> None:
    spread = disturbed(disturbed(fit, "residual", 1e5), "feed-forward", 1e5, seed=1)
    with pytest.raises(ModelInvalid, match="does not fit float16"):
        in_float16(spread)
    assert noise(spread, FEEDS, None) == np.inf
    found = equalize(spread, FEEDS, None, quiet)
    assert decibels(noise(found.fit, FEEDS, None)) > decibels(noise(fit, FEEDS, None)) - 1


@pytest.mark.parametrize(("factor", "leaves"), [(1, False), (100, False), (3e5, True), (1e-5, True)])
def test_when_channels_leave_float16(fit: FitGraph, factor: float, leaves: bool) -> None:
    graph = disturbed(fit, "values", factor)
    channels = channels_in(graph)
    assert leaves_float16(graph, channels, measure_spans(graph, channels, FEEDS)) is leaves


# Bundles


def outlying(path: Path) -> None:
    """Returns a model with two channels of its embeddings times 300, and the same logits."""
    made = qa_model(hidden=24)
    scales = np.ones(24, np.float32)
    scales[[3, 17]] = 300
    for tensor in made.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if tensor.name in ("words", "types", "positions"):
            value = value * scales
        elif tensor.name in ("query", "key", "value", "head"):
            value = value / scales[:, None]
        if tensor.name == "value":
            value = value * scales
        tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    onnx.save(made, path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("SNPE_ROOT", "QAIRT_SDK_ROOT", "QNN_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    outlying(tmp_path / "model.onnx")
    write_vocabulary(tmp_path)
    qas = [{"id": f"q{n}", "question": "when built?", "answers": [], "is_impossible": True} for n in range(3)]
    paragraphs = [{"context": "the bridge was built in 1820 . " * 3, "qas": qas}]
    document = {"version": "v2.0", "data": [{"title": "T", "paragraphs": paragraphs}]}
    Path("questions.json").write_text(json.dumps(document), encoding="utf-8")
    return tmp_path


def build(capfd: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    capfd.readouterr()
    how = ("--model", "model.onnx", "--questions", "questions.json", "--precision", "w8a8", "--check")
    assert main(["build", *how, *options, "--json"]) == 0
    told: dict[str, Any] = json.loads(capfd.readouterr().out)["model"]
    return told


@pytest.mark.slow
def test_build_tells_what_was_scaled(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plain = build(capfd, "--no-equalize", "--out", "plain")
    assert plain["equalized"] is None
    assert not (here / "plain" / layout.HOST / layout.EXPONENTS).exists()
    made = build(capfd, "--out", "bundle")
    assert made["equalized"]["channels"] >= 2
    assert made["equalized"]["largest_exponent"] >= 6
    assert made["check"]["sqnr_db"] > plain["check"]["sqnr_db"] + 6
    exponents = np.load(here / "bundle" / layout.HOST / layout.EXPONENTS)
    assert np.count_nonzero(exponents) == made["equalized"]["channels"]
    assert f"{layout.HOST}/{layout.EXPONENTS}" in read_bundle(Path("bundle")).manifest.files


def test_layers_are_compared_at_the_same_scale(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build(capfd, "--out", "bundle")
    bundle = read_bundle(Path("bundle"))
    layers = layers_of(bundle, "dsp")
    assert layers is not None
    assert min(layer["cosine"] for layer in layers if layer["name"] != "masked") > 0.98  # its range ends with the rows
    for content in (np.zeros(3, np.int8), np.zeros((2, 2), np.int8), np.zeros(3)):
        np.save(here / "bundle" / layout.HOST / layout.EXPONENTS, content)
        assert layers_of(bundle, "cpu") is None
    (here / "bundle" / layout.HOST / layout.EXPONENTS).unlink()
    assert layers_of(bundle, "dsp") is not None


def test_manifests_from_before_are_read() -> None:
    told = {
        "name": "m", "precision": "w8a8", "converter": "built-in", "soc": "SM8650", "float_bytes": 1, "dlc_bytes": 1,
        "mask_size": None, "calibration": None, "check": None,
    }  # fmt: skip
    assert typed(ModelRecord, told).equalized is None
    again = typed(ModelRecord, {**told, "equalized": {"channels": 3, "largest_exponent": 7}})
    assert again.equalized is not None
    assert again.equalized.largest_exponent == 7


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "least"), [("w8a8", 30), ("w8a16", 40)])
def test_the_demo_model_with_outliers_on_the_simulator(
    precision: str, least: float, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = fit_for_htp(onnx.load(DEMO_MODEL), 384)
    for place in PLACES:
        graph = disturbed(graph, place, 100, channels=4)
    onnx.save(graph.model, "spread.onnx")
    how = ("--model", "spread.onnx", "--tokenizer", str(DEMO_MODEL.with_name("tokenizer.json")))
    asked = ("--questions", str(DEMO_QUESTIONS), "--precision", precision, "--out", "spread")
    capfd.readouterr()
    assert main(["build", *how, *asked, "--check", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)["model"]["check"]
    assert found["equal_answers"] == found["windows"] == 6
    assert found["sqnr_db"] > least


@pytest.mark.slow
def test_many_channels_ten_times_as_large_are_told_from_the_others() -> None:
    questions = draw_questions(8, seed=CALIBRATION_SEED, held_out=False).questions
    windows = Windower(load_tokenizer(DEMO_TOKENIZER), 384, 128).windows(questions)
    feeds = [{name: value[None] for name, value in window.inputs.items()} for window in windows]
    graph = fit_for_htp(onnx.load(DEMO_MODEL), 384)
    set_mask_size(graph.model, measure_mask(graph, feeds))
    for seed, place in enumerate(PLACES, 110):
        graph = disturbed(graph, place, 10, channels=8, seed=seed)
    exponents = equalize(graph, feeds, W8A8, quiet).exponents
    assert 0.05 * len(exponents) < np.count_nonzero(exponents) < 0.5 * len(exponents)


def test_rounding_is_measured_as_it_is(fit: FitGraph) -> None:
    """Checks that noise() in float16 is the error of the float16 graph."""
    half, exact = runner(in_float16(fit)), runner(fit.model)
    names = list(styles.OUTPUTS)
    real = FEEDS[0]["attention_mask"] == 1
    pairs = zip(half.run(names, FEEDS[0]), exact.run(names, FEEDS[0]), strict=True)
    both = [(one[real].astype(np.float64), other[real].astype(np.float64)) for one, other in pairs]
    error, power = (sum(parts) for parts in zip(*(((a - b) @ (a - b), b @ b) for a, b in both), strict=True))
    assert noise(fit, FEEDS[:1], None) == pytest.approx(error / power)
