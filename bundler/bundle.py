"""The bundle: a folder whose manifest names every file with size and SHA-256. Written whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bundler import layout
from bundler.errors import BundleInvalid, FileUnreadable, HostStorageFailed, UsageError
from bundler.types import Question, TensorSpec

SCHEMA = 2


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
    """What the bundle is; `files` maps paths relative to the bundle (POSIX) to their sizes and checksums."""

    schema: int
    made_by: str
    model: ModelRecord
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_answer_tokens: int
    may_be_unanswerable: bool
    windows: tuple[Window, ...]
    files: Mapping[str, FileEntry]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Raises: ValueError, TypeError, KeyError where the text is no manifest of this schema."""
        fields: dict[str, Any] = json.loads(text)
        if fields["schema"] != SCHEMA:
            raise ValueError(f"schema {fields['schema']}, and this release reads {SCHEMA}")
        fields["model"] = ModelRecord.from_json(fields["model"])
        for role in ("inputs", "outputs"):
            fields[role] = tuple(TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in fields[role])
        fields["windows"] = tuple(Window(**window) for window in fields["windows"])
        fields["files"] = {path: FileEntry(**entry) for path, entry in fields["files"].items()}
        return cls(**fields)


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files all agreed with the manifest when it was read."""

    path: Path
    manifest: Manifest
    id: str

    @property
    def device_files(self) -> dict[str, FileEntry]:
        """What goes to the phone: paths relative to the device folder."""
        prefix = f"{layout.DEVICE}/"
        return {p.removeprefix(prefix): entry for p, entry in self.manifest.files.items() if p.startswith(prefix)}

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        entries = json.loads((self.path / layout.HOST / layout.QUESTIONS).read_text(encoding="utf-8"))
        return tuple(Question(**{**entry, "answers": tuple(entry["answers"])}) for entry in entries)

    @cached_property
    def offsets(self) -> npt.NDArray[np.int32]:
        """(windows, length, 2): the context's characters under each token of each input-list line; -1 outside."""
        offsets: npt.NDArray[np.int32] = np.load(self.path / layout.HOST / layout.OFFSETS, allow_pickle=False)
        return offsets


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bundle(path: Path) -> Bundle:
    """The bundle at `path`, every file checked against the manifest.

    Raises:
        FileUnreadable: there is none; BundleInvalid: the file named is missing, changed, or no manifest.
    """
    manifest_path = path / layout.MANIFEST
    try:
        raw = manifest_path.read_bytes()
    except OSError as error:
        raise FileUnreadable(manifest_path, f"{error.strerror} (is {path} a bundle?)") from error
    try:
        manifest = Manifest.from_json(raw.decode())
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleInvalid(manifest_path, f"is no manifest that this release reads: {error}") from error
    for name, entry in manifest.files.items():
        _verify(path, name, entry)
    return Bundle(path, manifest, hashlib.sha256(raw).hexdigest()[:16])


def _verify(root: Path, name: str, entry: FileEntry) -> None:
    path = root / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise BundleInvalid(path, "lies outside the bundle")
    try:
        size = path.stat().st_size
        if size != entry.size:
            raise BundleInvalid(path, f"has {size} bytes, and {entry.size} were written")
        if sha256_of(path) != entry.sha256:
            raise BundleInvalid(path, "was changed after the bundle was built")
    except OSError as error:
        raise BundleInvalid(path, f"cannot be read: {error.strerror}") from error


def file_entries(root: Path) -> dict[str, FileEntry]:
    """Every file below `root` by its POSIX path, sorted."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): FileEntry(path.stat().st_size, sha256_of(path)) for path in files}


@contextmanager
def drafting(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when the block ends well, and vanishes when it does not.

    A bundle that is already there is replaced, its runs are kept.

    Raises:
        UsageError: `out` is something other than a bundle; HostStorageFailed
    """
    if out.exists() and not (out / layout.MANIFEST).exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: is there already, and is no bundle", "Choose another folder with --out.")
    draft = out.parent / f".{out.name}.draft-{os.getpid()}"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        yield draft
        if (out / layout.RUNS).exists():
            (out / layout.RUNS).rename(draft / layout.RUNS)
        if out.exists():
            shutil.rmtree(out)
        draft.rename(out)
    except OSError as error:
        raise HostStorageFailed(error.filename or out, error.strerror or str(error)) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A name beside `path` that becomes `path` when the block ends well.

    Raises:
        HostStorageFailed
    """
    draft = path.with_name(f".{path.name}.draft-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.replace(path)
    except OSError as error:
        raise HostStorageFailed(path, error.strerror or str(error)) from error
    finally:
        draft.unlink(missing_ok=True)
