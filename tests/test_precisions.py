"""Graph styles x precisions x runtimes: how near each is to the float32 ONNX that it came from, and whether it answers
the same; the thresholds of issue 3 on more questions for one style; and that inspect tells what every DLC holds.

docs/precisions.md has the same figures on many more questions (benchmarks/accuracy.py).
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, version_converter

from benchmarks.cells import SEED, Exam, Grade, dlc_logits, draw_questions, grade, make_dlc, onnx_logits
from bundler import resources
from bundler.dlc.inspect import inspect_dlc
from bundler.model.graph import fit_for_htp
from bundler.model.make import Recipe
from bundler.model.sources import load_onnx
from bundler.types import Feature, Runtime, TensorSpec

LENGTH = 384
HEADS = 4
LEAST = float(np.finfo(np.float32).min)
LOGITS = ("start_logits", "end_logits")
SHAPE = (1, LENGTH)
INT64, BOOL, FLOAT = TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT
MASK = "/Mul_output_0"  # the demo model's additive mask

STYLES = ("ours", "optimum", "optimum_inf", "newest")
GENUINE = ("optimum", "optimum_inf", "newest_sdpa")  # needs torch, the last onnxscript too
RECIPES = {
    "fp32": Recipe("fp32"),
    "fp16": Recipe("fp16"),
    "w16a16": Recipe("w16a16"),
    "w8a16": Recipe("w8a16"),
    "w8a8": Recipe("w8a8"),
    "w8a8 mixed": Recipe("w8a8", mixed=True),
}
LEAST_LIKE: dict[tuple[str, Runtime], float] = {  # correlation with float32
    ("fp32", "cpu"): 0.9999999,
    ("fp32", "gpu"): 0.99999,
    ("fp32", "dsp"): 0.99999,
    ("fp16", "cpu"): 0.99999,
    ("fp16", "gpu"): 0.99999,
    ("fp16", "dsp"): 0.99999,
    ("w16a16", "cpu"): 0.99999,
    ("w16a16", "gpu"): 0.99999,
    ("w16a16", "dsp"): 0.9999,
    ("w8a16", "cpu"): 0.999,
    ("w8a16", "gpu"): 0.999,
    ("w8a16", "dsp"): 0.999,
    ("w8a8", "cpu"): 0.999,
    ("w8a8", "gpu"): 0.999,
    ("w8a8", "dsp"): 0.99,
    ("w8a8 mixed", "cpu"): 0.999,
    ("w8a8 mixed", "gpu"): 0.999,
    ("w8a8 mixed", "dsp"): 0.995,
}
ON_DSP = {"fp32": 1, "fp16": 1, "w16a16": 1, "w8a16": 2, "w8a8": 6, "w8a8 mixed": 4}  # questions: each takes seconds
OFF_DSP = 12
MOST = 24
STORED = {  # how logits leave the network
    "fp32": {"float32"},
    "fp16": {"float32"},
    "w16a16": {"uint16"},
    "w8a16": {"uint16"},
    "w8a8": {"uint8"},
    "w8a8 mixed": {"uint8", "uint16"},
}


def restyled(style: str) -> onnx.ModelProto:
    """The demo model with the inputs, the axes and the mask that another exporter gives it, without torch.

    ours          int32, static, a mask of -10000
    optimum       int64, dynamic, (1 - mask) * -3.4e38
    optimum_inf   int64, dynamic, a Where with -inf in each layer and a guard against NaN after each Softmax
    newest        int64, static, opset 20, GatherND, And and Where on booleans
    """
    made = onnx.load(resources.DEMO_MODEL)
    graph = made.graph
    old = list(graph.node)
    last = next(index for index, each in enumerate(old) if each.output[0] == MASK)
    between = {"attention_mask"}
    kept = []
    for index, each in enumerate(old):
        if index <= last and between & set(each.input):
            between.update(each.output)  # makes the mask out of the input, and nothing else
        else:
            kept.append(each)
    node, constant = helper.make_node, _Constants(graph)
    before: list[onnx.NodeProto] = []
    if style in ("ours", "optimum"):
        size = -10000.0 if style == "ours" else LEAST
        before = [
            node("Unsqueeze", ["attention_mask", constant([1, 2], np.int64)], ["m:wide"]),
            node("Cast", ["m:wide"], ["m:float"], to=FLOAT),
            node("Sub", [constant(1, np.float32), "m:float"], ["m:absent"]),
            node("Mul", ["m:absent", constant(size, np.float32)], [MASK]),
        ]
    elif style == "newest":
        indices = np.stack([np.zeros(LENGTH, np.int64), np.arange(LENGTH)], axis=-1)[None, None, None]
        before = [
            node("Cast", ["attention_mask"], ["m:bool"], to=BOOL),
            node("GatherND", ["m:bool", constant(indices, np.int64)], ["m:found"]),
            node("And", [constant(np.ones((1, 1, LENGTH, 1)), np.bool_), "m:found"], ["m:kept"]),
            node("Where", ["m:kept", constant(0, np.float32), constant(LEAST, np.float32)], [MASK]),
        ]
    else:
        before = [
            node("Cast", ["attention_mask"], ["m:bool"], to=BOOL),
            node("Unsqueeze", ["m:bool", constant([1, 2], np.int64)], ["m:kept"]),
        ]
        kept = [made for each in kept for made in _guarded(each, constant)]
    del graph.node[:]
    graph.node.extend([*before, *kept])
    if style != "ours":
        for value in graph.input:
            value.type.tensor_type.elem_type = INT64
    if style.startswith("optimum"):
        _make_dynamic(graph, constant)
    if style == "newest":
        made = version_converter.convert_version(made, 20)
    onnx.checker.check_model(made)
    return made


class _Constants:
    """Adds initializers to a graph; returns their names."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._count = 0

    def __call__(self, value: Any, dtype: Any) -> str:
        self._count += 1
        name = f"m:constant{self._count}"
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name


def _guarded(each: onnx.NodeProto, constant: _Constants) -> list[onnx.NodeProto]:
    """An attention's Add with a Where of its own, its Softmax with a guard; other nodes as they are."""
    node, name = helper.make_node, each.output[0]
    if each.op_type == "Add" and MASK in each.input:
        infinite = [constant([0], np.float32), constant([-np.inf], np.float32)]
        each.input[list(each.input).index(MASK)] = f"{name}:mask"
        return [node("Where", ["m:kept", *infinite], [f"{name}:mask"]), each]
    if each.op_type == "Softmax":
        each.output[0] = f"{name}:raw"
        guard = [f"{name}:nan", constant([0], np.float32), each.output[0]]
        return [each, node("IsNaN", [each.output[0]], [guard[0]]), node("Where", guard, [name])]
    return [each]


def _make_dynamic(graph: onnx.GraphProto, constant: _Constants) -> None:
    """Axes of any size: targets of Reshape leave the length open, the position embedding is cut to it."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    position = next(each for each in graph.node if each.output[0].endswith("position_embeddings/Gather_output_0"))
    for each in graph.node:
        target = values.get(each.input[1]) if each.op_type == "Reshape" else None
        if target is not None and LENGTH in target:
            opened = [HEADS if size == -1 else -1 if size == LENGTH else size for size in target.tolist()]
            each.input[1] = constant(opened, np.int64)
        for at, name in enumerate(each.input):
            if name == position.output[0]:
                each.input[at] = "m:positions"
    node, first, second = helper.make_node, constant([0], np.int64), constant([1], np.int64)
    cut = [
        node("Shape", ["input_ids"], ["m:shape"]),
        node("Gather", ["m:shape", second], ["m:length"]),
        node("Slice", [position.output[0], first, "m:length", second], ["m:positions"]),
    ]
    rest = [each for each in graph.node if each is not position]
    rest = [position, *cut, *rest]
    copies = [onnx.NodeProto.FromString(each.SerializeToString()) for each in rest]
    del graph.node[:]
    graph.node.extend(copies)
    for value in (*graph.input, *graph.output):
        for dim, name in zip(value.type.tensor_type.shape.dim, ("batch_size", "sequence_length"), strict=True):
            dim.dim_param = name


def genuine(style: str, path: Path) -> Path:
    """The demo model as torch's exporters write it; skips where they are not here."""
    pytest.importorskip("torch")
    if style.startswith("newest") and importlib.util.find_spec("onnxscript") is None:
        pytest.skip("torch's newest exporter needs onnxscript")
    from tests import families

    families.silence()
    families.export(families.demo_model("eager" if style == "optimum" else "sdpa"), style, path)
    return path


def shortened(feature: Feature, length: int) -> Feature:
    inputs = {name: values[:length] for name, values in feature.inputs.items()}
    return Feature(feature.key, feature.question_id, inputs, feature.offsets[:length])


@pytest.mark.parametrize("style", STYLES)
def test_another_style_is_the_same_model(style: str, tmp_path: Path) -> None:
    onnx.save(restyled(style), tmp_path / "model.onnx")
    exam = Exam.of(resources.DEMO_MODEL, draw_questions(2, seed=SEED, held_out=True))
    for feature, exact in zip(exam.features, exam.exact, strict=True):
        real = feature.inputs["attention_mask"] == 1
        lengths = (LENGTH, int(real.sum()) + 5) if style.startswith("optimum") else (LENGTH,)
        for length in lengths:
            (other,) = onnx_logits(tmp_path / "model.onnx", [shortened(feature, length)])
            for name in LOGITS:
                np.testing.assert_allclose(other[name][0][real[:length]], exact[name][0][real], atol=1e-4)


class Lab:
    """Models by style and DLCs by style and precision, each made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._models: dict[str, Path] = {}
        self._dlcs: dict[tuple[str, str], Path] = {}
        self._exams: dict[str, Exam] = {}
        self._grades: dict[tuple[str, str, Runtime, int], Grade] = {}

    def model(self, style: str) -> Path:
        if style not in self._models:
            path = self._folder / f"{style.replace(' ', '-')}.onnx"
            if style.startswith("genuine "):
                genuine(style.removeprefix("genuine "), path)
            else:
                onnx.save(restyled(style), path)
            self._models[style] = path
        return self._models[style]

    def dlc(self, style: str, precision: str) -> Path:
        if (style, precision) not in self._dlcs:
            out = self._folder / f"{style}-{precision}".replace(" ", "-")
            self._dlcs[style, precision] = make_dlc(self.model(style), RECIPES[precision], out)
        return self._dlcs[style, precision]

    def grade(self, style: str, precision: str, runtime: Runtime, count: int) -> Grade:
        """The same questions for every style; correlation is to the style's own ONNX in float32."""
        if style not in self._exams:
            self._exams[style] = Exam.of(self.model(style), draw_questions(MOST, seed=SEED, held_out=True))
        key = (style, precision, runtime, count)
        if key not in self._grades:
            exam = self._exams[style].first(count)
            self._grades[key] = grade(exam, dlc_logits(self.dlc(style, precision), runtime, exam.features))
        return self._grades[key]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


def check(lab: Lab, style: str, precision: str) -> None:
    for runtime, count in (("cpu", OFF_DSP), ("gpu", OFF_DSP), ("dsp", ON_DSP[precision])):
        found = lab.grade(style, precision, runtime, count)
        assert found.correlation > LEAST_LIKE[precision, runtime], (runtime, found)
        assert found.equal == found.questions, (runtime, found)
    check_inspect(lab.dlc(style, precision), lab.model(style), precision)


def check_inspect(dlc: Path, model: Path, precision: str) -> None:
    """What inspect tells of the DLC agrees with the ONNX: names and shapes, dtypes that follow from the precision."""
    report = inspect_dlc(dlc)
    original = load_onnx(model)
    fit = fit_for_htp(original, LENGTH)
    assert {t.spec for t in report.inputs} == {TensorSpec(v.name, "int32", SHAPE) for v in original.graph.input}
    assert {t.dtype for t in report.outputs} <= STORED[precision]
    assert {(t.name, t.shape) for t in report.outputs} == {(value.name, SHAPE) for value in original.graph.output}
    assert all((t.encoding is not None) == precision.startswith("w") for t in report.outputs)
    assert report.precision == precision.removesuffix(" mixed")
    assert report.parameters == float_elements(fit.model)
    assert abs(report.parameters / float_elements(original) - 1) < 0.01  # factors are multiplied into weights
    assert sum(report.parameter_dtypes.values()) == report.parameters
    assert report.size_bytes == dlc.stat().st_size


def float_elements(made: onnx.ModelProto) -> int:
    """Elements of the float initializers and Constant nodes that operators take, the value of a Pad aside."""
    pads = {node.input[2] for node in made.graph.node if node.op_type == "Pad" and len(node.input) > 2}
    tensors = {weight.name: weight for weight in made.graph.initializer}
    tensors |= {node.output[0]: node.attribute[0].t for node in made.graph.node if node.op_type == "Constant"}
    found = (t for name, t in tensors.items() if t.data_type == FLOAT and name not in pads)
    return sum(int(np.prod(t.dims)) for t in found)


@pytest.mark.slow
@pytest.mark.parametrize("precision", RECIPES)
def test_every_precision_on_every_runtime(lab: Lab, precision: str) -> None:
    check(lab, "ours", precision)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "w16a16", "w8a16", "w8a8"])
@pytest.mark.parametrize("style", STYLES[1:])
def test_every_style(lab: Lab, style: str, precision: str) -> None:
    check(lab, style, precision)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "w8a8"])
@pytest.mark.parametrize("style", GENUINE)
def test_what_torch_exports(lab: Lab, style: str, precision: str) -> None:
    check(lab, f"genuine {style}", precision)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "count", "share", "sqnr_db"),
    [
        ("fp16", 12, 0.99, 50),
        ("w16a16", 12, 0.99, 40),
        ("w8a16", 24, 0.98, 35),
        ("w8a8", 24, 0.95, 24),
        ("w8a8 mixed", 24, 0.95, 27),
    ],
)
def test_answers_on_the_dsp_are_those_of_float32(
    lab: Lab, precision: str, count: int, share: float, sqnr_db: float
) -> None:
    found = lab.grade("ours", precision, "dsp", count)
    assert found.questions == count
    assert found.equal >= share * count, found
    assert found.sqnr_db > sqnr_db, found


@pytest.mark.slow
def test_sixteen_bits_where_they_count_bring_the_logits_nearer(lab: Lab) -> None:
    plain, mixed = (lab.grade("ours", precision, "dsp", MOST) for precision in ("w8a8", "w8a8 mixed"))
    assert mixed.sqnr_db > plain.sqnr_db + 1
