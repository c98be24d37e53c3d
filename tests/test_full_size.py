"""A MobileBERT of full size, 24 layers and 30,522 words, with random weights, goes through every precision.

Few windows to calibrate on and one inference on the DSP's simulator: benchmarks/conversion.py has times and memory.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.cells import OUTPUTS, SOC, Exam, dlc_logits, grade
from benchmarks.mobilebert import INPUTS, Size, random_mobilebert, write_questions, write_vocabulary
from bundler import layout
from bundler.build import BuildRequest, CalibrationRequest, build_bundle
from bundler.dlc.inspect import inspect_dlc
from bundler.model.make import PRECISIONS, Precision, Recipe
from bundler.qa.questions import read_squad
from bundler.types import TensorSpec
from tests.conftest import quiet

SHAPE = (1, 384)
PARAMETERS = 24_583_682  # of MobileBertForQuestionAnswering with its default config
LEAST_LIKE = {"fp32": 0.9999999, "fp16": 0.9999, "w16a16": 0.9999, "w8a16": 0.999, "w8a8": 0.999}  # on the CPU
WINDOWS = 2


class Bench:
    """The model, its tokenizer and questions, and its DLC at each precision, made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.model, self.tokenizer = folder / "model.onnx", folder / "vocab.txt"
        onnx.save(random_mobilebert(), self.model)
        write_questions(folder / "questions.json", write_vocabulary(self.tokenizer), WINDOWS)
        self.questions = read_squad(folder / "questions.json")
        self.exam = Exam.of(self.model, self.questions, self.tokenizer)

    def dlc(self, precision: Precision) -> Path:
        out = self._folder / precision
        if not out.exists():
            recipe = Recipe(precision, converter="built-in")
            sample = CalibrationRequest(windows=WINDOWS)
            request = BuildRequest(self.questions, self.model, self.tokenizer, SOC, recipe=recipe, calibration=sample)
            build_bundle(request, out, quiet)
        return out / layout.DEVICE / layout.MODEL


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("full"))


@pytest.mark.slow
def test_the_logits_tell_tokens_apart(bench: Bench) -> None:
    """Or else a correlation would say nothing."""
    for logits in bench.exam.exact:
        for name in OUTPUTS:
            assert 0.1 < np.std(logits[name]) < 10


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision(bench: Bench, precision: Precision) -> None:
    """The DLC holds the model, and on the CPU, which computes a fixed-point DLC in float, gives its logits."""
    report = inspect_dlc(bench.dlc(precision))
    assert report.precision == precision
    assert {tensor.spec for tensor in report.inputs} == {TensorSpec(name, "int32", SHAPE) for name in INPUTS}
    assert {(tensor.name, tensor.shape) for tensor in report.outputs} == {(name, SHAPE) for name in OUTPUTS}
    assert abs(report.parameters / PARAMETERS - 1) < 0.01
    exam = bench.exam.first(1)
    assert grade(exam, dlc_logits(bench.dlc(precision), "cpu", exam.features)).correlation > LEAST_LIKE[precision]


@pytest.mark.slow
def test_float16_on_the_dsp_is_like_float32(bench: Bench) -> None:
    exam = bench.exam.first(1)
    assert grade(exam, dlc_logits(bench.dlc("fp16"), "dsp", exam.features)).correlation > 0.999


@pytest.mark.slow
def test_eight_bits_take_less_than_a_third_of_thirty_two(bench: Bench) -> None:
    assert bench.dlc("w8a8").stat().st_size <= 0.3 * bench.dlc("fp32").stat().st_size


def test_it_is_a_mobilebert(tmp_path: Path) -> None:
    """transformers' own model with the same weights gives the same logits."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    made = random_mobilebert(Size(words=100, layers=2), length=48)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    config = transformers.MobileBertConfig(vocab_size=100, num_hidden_layers=2)
    model = transformers.MobileBertForQuestionAnswering(config).eval()
    state = model.state_dict()
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    for name in state:
        values = np.array(weights[name].T if name in linear else weights[name])
        state[name] = torch.from_numpy(values)
    model.load_state_dict(state)
    random, mask = np.random.default_rng(0), (np.arange(48) < 40).astype(np.int32)[None]
    ids, types = random.integers(0, 100, (1, 48)).astype(np.int32), (np.arange(48) > 9).astype(np.int32)[None]
    feed = dict(zip(INPUTS, (ids, mask, types), strict=True))
    with torch.no_grad():
        found = model(**{name: torch.from_numpy(values.astype(np.int64)) for name, values in feed.items()})
    onnx.save(made, tmp_path / "model.onnx")
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for expected, logits in zip((found.start_logits, found.end_logits), session.run(list(OUTPUTS), feed), strict=True):
        np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4)
