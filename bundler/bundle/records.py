"""Defines the records of a bundle's manifest."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random

from bundler.bundle.parsing import typed
from bundler.engines import EngineName
from bundler.types import OUTPUTS, TensorSpec

SCHEMA = 3
LONGEST = 1 << 20  # tokens
TENSOR_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Sample:
    """Some of a bundle's questions: `count` drawn with `seed`, or the first `count` without a seed."""

    count: int
    seed: int | None = None

    def places(self, total: int) -> list[int]:
        """Returns the places of the sample among `total` questions, ascending."""
        count = min(self.count, total)
        return list(range(count)) if self.seed is None else sorted(Random(self.seed).sample(range(total), count))


@dataclass(frozen=True)
class Window:
    """Ties a window to its line of the input list (from 0), its raw inputs and its output files."""

    key: str
    question_id: str
    line: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Check:
    """The deviation of the DLC, run on the DSP's simulator, from the float32 model on `windows` windows; the DLC was
    calibrated on `calibrated` of them."""

    windows: int
    equal_answers: int
    correlation: float | None
    sqnr_db: float | None
    calibrated: int = 0

    @property
    def share(self) -> float:
        """Returns the share of answers that equal float32's, 0 to 1."""
        return self.equal_answers / self.windows if self.windows else 0.0


@dataclass(frozen=True)
class Trial:
    """A precision that `--precision auto` tried: its check by ONNX Runtime on this computer, and by the DSP's simulator
    if it got that far."""

    precision: str
    mixed: bool
    here: Check
    simulator: Check | None = None
    dlc_bytes: int | None = None


@dataclass(frozen=True)
class CalibrationRecord:
    """The windows that quantization was calibrated on: a sample of those of `questions`, drawn with `seed`."""

    questions: str
    windows: int
    seed: int
    method: str
    per_channel: bool
    wide_operators: int


@dataclass(frozen=True)
class EqualizationRecord:
    """Equalization: the number of the model's channels that were multiplied by powers of two before rounding, where
    channels that share one scale count once; `largest_exponent`: the largest exponent of two, up or down."""

    channels: int
    largest_exponent: int


@dataclass(frozen=True)
class ModelRecord:
    """The model and how its DLC was made; sizes in bytes, None if the DLC was given. `engine`: whose tools wrote it,
    SNPE's if an older release did not record it; `graph`: its graph's name, empty if nothing here read it."""

    name: str
    precision: str
    converter: str
    soc: str
    float_bytes: int | None
    dlc_bytes: int
    mask_size: float | None
    calibration: CalibrationRecord | None
    check: Check | None
    equalized: EqualizationRecord | None = None
    trials: tuple[Trial, ...] = ()
    engine: EngineName = "snpe"
    graph: str = ""


@dataclass(frozen=True)
class Manifest:
    """A bundle's manifest; `files` maps paths relative to the bundle (POSIX) to their sizes and checksums; `sdk`: the
    SDK release of its programs for phones, empty if it has none, or if the release is unknown.

    `files` does not contain the raw inputs, and the manifest's text does not contain the windows: both grow with the
    questions, and are listed line by line in separate files, whose checksums are here.
    """

    schema: int
    made_by: str
    model: ModelRecord
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_answer_tokens: int
    may_be_unanswerable: bool
    windows: Sequence[Window]
    files: Mapping[str, FileEntry]
    sdk: str = ""
    doc_stride: int = 128  # the overlap of a long context's windows, in tokens; not recorded by older releases

    def to_json(self) -> str:
        told = asdict(replace(self, windows=()))
        del told["windows"]
        return json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Parses the manifest, without windows yet.

        Raises:
            ValueError: the text is not a manifest of this schema; RecursionError
        """
        told = json.loads(text)
        if not isinstance(told, dict) or "windows" in told:
            raise ValueError("it is not an object with a manifest's fields")
        if told.get("schema") != SCHEMA:
            raise ValueError(f"schema {told.get('schema')}, and this release reads {SCHEMA}")
        manifest = typed(cls, {**told, "windows": []})
        _check_tensors(manifest.inputs, manifest.outputs)
        if manifest.max_answer_tokens < 1:
            raise ValueError("max_answer_tokens is below 1")
        if manifest.doc_stride < 0:
            raise ValueError("doc_stride is below 0")
        return manifest


def _check_tensors(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Raises ValueError for other tensors than a question-answering model's, which are all (1, length)."""
    names = [spec.name for spec in (*inputs, *outputs)]
    if not inputs or {spec.name for spec in outputs} != set(OUTPUTS) or len(set(names)) < len(names):
        raise ValueError(f"its tensors are {', '.join(names) or 'none'}")
    for spec in (*inputs, *outputs):
        if not TENSOR_NAME.fullmatch(spec.name):
            raise ValueError(f"{spec.name!r} is not a tensor's name")
        if len(spec.shape) != 2 or spec.shape != inputs[0].shape or not spec.shape[0] == 1 <= spec.shape[1] <= LONGEST:
            raise ValueError(f"{spec.name} has shape {list(spec.shape)}, not the (1, length) of all")
