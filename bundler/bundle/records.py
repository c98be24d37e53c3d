"""What the manifest tells of a bundle."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bundler.types import TensorSpec

SCHEMA = 3


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle."""

    size: int
    sha256: str


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
    """How far the DLC, run on the DSP's simulator, is from the float32 model on the calibration windows."""

    windows: int
    equal_answers: int
    correlation: float
    sqnr_db: float


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
class ModelRecord:
    """The model and how its DLC was made; sizes in bytes, None where the DLC was given."""

    name: str
    precision: str
    converter: str
    soc: str
    float_bytes: int | None
    dlc_bytes: int
    mask_size: float | None
    calibration: CalibrationRecord | None
    check: Check | None

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "ModelRecord":
        for key, kind in (("calibration", CalibrationRecord), ("check", Check)):
            if fields[key] is not None:
                fields[key] = kind(**fields[key])
        return cls(**fields)


@dataclass(frozen=True)
class Manifest:
    """What the bundle is; `files` maps paths relative to the bundle (POSIX) to their sizes and checksums.

    The raw inputs are not among them, nor are the windows in the manifest's text: both grow with the questions, and
    are told line by line in files of their own, whose checksums are here.
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

    def to_json(self) -> str:
        told = asdict(replace(self, windows=()))
        del told["windows"]
        return json.dumps(told, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """The manifest with no windows yet.

        Raises:
            ValueError, TypeError, KeyError where the text is no manifest of this schema.
        """
        told: dict[str, Any] = json.loads(text)
        if told["schema"] != SCHEMA:
            raise ValueError(f"schema {told['schema']}, and this release reads {SCHEMA}")
        told["model"] = ModelRecord.from_json(told["model"])
        for role in ("inputs", "outputs"):
            told[role] = tuple(TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in told[role])
        told["files"] = {path: FileEntry(**entry) for path, entry in told["files"].items()}
        return cls(windows=(), **told)
