"""Reads and writes bundles: folders whose manifest lists every file with size and SHA-256. Writes are atomic."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bundler import layout
from bundler.bundle.arrays import map_array
from bundler.bundle.atomic import drafting
from bundler.bundle.json_lines import JsonLines, Selection
from bundler.bundle.parsing import typed
from bundler.bundle.records import (
    SCHEMA,
    CalibrationRecord,
    Check,
    EqualizationRecord,
    FileEntry,
    Manifest,
    ModelRecord,
    Sample,
    Trial,
    Window,
)
from bundler.errors import BundleInvalid, FileUnreadable, NoBundle
from bundler.files import sha256_of
from bundler.platforms import BINARY
from bundler.types import Question

__all__ = [
    "SCHEMA", "Bundle", "CalibrationRecord", "Check", "EqualizationRecord", "FileEntry", "Manifest", "ModelRecord",
    "Sample", "Trial", "Window", "drafting", "file_entries", "read_bundle", "read_questions", "read_windows", "seal",
    "write_manifest",
]  # fmt: skip


PLAIN = re.compile(r"[\w/]+\.raw", re.ASCII)  # a raw input's name
SMALL = 1 << 16  # bytes of a file that is read at once: opening it in the usual way takes longer than reading it
NEEDED = (
    *(f"{layout.HOST}/{name}" for name in (layout.QUESTIONS, layout.WINDOWS, layout.SUMS, layout.OFFSETS)),
    f"{layout.DEVICE}/{layout.INPUT_LIST}",
)


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files all matched the manifest when it was read."""

    path: Path
    manifest: Manifest
    id: str
    sample: Sample | None = None

    @property
    def device_files(self) -> dict[str, FileEntry]:
        """Returns the files for the phone, besides the raw inputs: paths relative to the device folder."""
        prefix = f"{layout.DEVICE}/"
        return {p.removeprefix(prefix): entry for p, entry in self.manifest.files.items() if p.startswith(prefix)}

    @cached_property
    def questions(self) -> Sequence[Question]:
        questions = read_questions(self.path / layout.HOST)
        return Selection(questions, self.sample.places(len(questions))) if self.sample else questions

    @cached_property
    def lines(self) -> Sequence[int]:
        """Returns each window's line in the input list; only some lines for a sample."""
        windows = self.manifest.windows
        return windows.places if isinstance(windows, Selection) else range(len(windows))

    def of(self, sample: Sample | None) -> "Bundle":
        """Returns the bundle restricted to a sample of its questions, or (None) unchanged."""
        if sample is None:
            return self
        part, windows = replace(self, sample=sample), self.manifest.windows
        chosen = {question.id for question in part.questions}
        lines = [line for line, window in enumerate(windows) if window.question_id in chosen]
        return replace(part, manifest=replace(self.manifest, windows=Selection(windows, lines)))

    @cached_property
    def offsets(self) -> npt.NDArray[np.int32]:
        """Returns (windows, length, 2): the characters of the context under each token of each line; -1 outside.

        The file is memory-mapped.

        Raises:
            BundleInvalid
        """
        path, length = self.path / layout.HOST / layout.OFFSETS, self.manifest.inputs[0].shape[1]
        windows = self.manifest.windows
        count = len(windows.items if isinstance(windows, Selection) else windows)
        try:
            offsets = map_array(path, (np.int32, (count, length, 2)))
            return offsets if self.sample is None else offsets[list(self.lines)]
        except ValueError as error:
            raise BundleInvalid(path, f"is not what build writes: {error}") from error

    def checked_inputs(self) -> frozenset[str]:
        """Returns the raw inputs whose checksums were compared, relative to the device folder."""
        return frozenset(path.removeprefix(f"{layout.DEVICE}/") for path, _ in _input_files(self.path, self.manifest))

    @cached_property
    def size_bytes(self) -> int:
        """Returns the size of all its files, except the manifest and the runs."""
        inputs = sum(entry.size for _, entry in _input_files(self.path, self.manifest))
        return inputs + sum(entry.size for entry in self.manifest.files.values())


def read_questions(host: Path) -> Sequence[Question]:
    """Returns the questions in a bundle's host folder."""
    return JsonLines(host / layout.QUESTIONS, lambda _, entry: typed(Question, entry))


def read_windows(host: Path, inputs: Sequence[str], outputs: Sequence[str]) -> Sequence[Window]:
    """Returns the windows in a bundle's host folder, for a model with these inputs and outputs."""

    def window(line: int, entry: Any) -> Window:
        results = {name: layout.result_file(name, line) for name in outputs}
        told = typed(Window, {**entry, "line": line, "outputs": results} if isinstance(entry, dict) else entry)
        if set(told.inputs) != set(inputs) or not all(map(layout.is_input_file, told.inputs.values(), told.inputs)):
            raise ValueError("its inputs are not the model's")
        return told

    return JsonLines(host / layout.WINDOWS, window)


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Writes the manifest of the bundle in this folder, and its checksum. Raises: OSError"""
    (root / layout.MANIFEST).write_text(manifest.to_json(), encoding="utf-8", newline="\n")
    seal(root)


def seal(root: Path) -> None:
    """Writes the checksum of the existing manifest. Raises: OSError"""
    (root / layout.SEAL).write_bytes(_seal_of((root / layout.MANIFEST).read_bytes()))


def _seal_of(manifest: bytes) -> bytes:
    return f"{hashlib.sha256(manifest).hexdigest()}  {layout.MANIFEST}\n".encode()


def read_bundle(path: Path) -> Bundle:
    """Reads the bundle at `path`; checks every file against the manifest, and the manifest against its checksum.

    Raises:
        NoBundle; FileUnreadable; BundleInvalid: the named file is missing, changed, or no manifest.
    """
    manifest_path = path / layout.MANIFEST
    try:
        raw = manifest_path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoBundle(path) from error
    except OSError as error:
        raise FileUnreadable(manifest_path, error.strerror or str(error)) from error
    try:
        manifest = Manifest.from_json(raw.decode())
    except (ValueError, RecursionError) as error:
        raise BundleInvalid(manifest_path, f"is not a manifest that this release reads: {error}") from error
    _check_seal(path, raw)
    for name in NEEDED:
        if name not in manifest.files:
            raise BundleInvalid(manifest_path, f"does not name {name}")
    folders: set[str] = set()
    for name, entry in manifest.files.items():
        _verify(path, name, entry, folders)
    for name, entry in _input_files(path, manifest):
        _verify(path, name, entry, folders)
    inputs, outputs = ([spec.name for spec in side] for side in (manifest.inputs, manifest.outputs))
    windows = read_windows(path / layout.HOST, inputs, outputs)
    return Bundle(path, replace(manifest, windows=windows), hashlib.sha256(raw).hexdigest()[:16])


def _input_files(root: Path, manifest: Manifest) -> Iterator[tuple[str, FileEntry]]:
    """Yields the raw inputs from the bundle's list of their checksums, which has been checked already."""
    sizes = {spec.name: 4 * int(np.prod(spec.shape)) for spec in manifest.inputs}
    path = root / layout.HOST / layout.SUMS
    with path.open(encoding="utf-8", errors="surrogateescape") as sums:
        for line in sums:
            sha256, _, name = line.rstrip("\n").partition("  ")
            tensor = layout.tensor_of(name)
            if tensor not in sizes or not layout.is_input_file(name, tensor):
                raise BundleInvalid(path, f"names {name!r}, which is not an input")
            yield f"{layout.DEVICE}/{name}", FileEntry(sizes[tensor], sha256)


def _check_seal(root: Path, manifest: bytes) -> None:
    path = root / layout.SEAL
    try:
        told = path.read_bytes()
    except OSError as error:
        raise BundleInvalid(path, f"cannot be read: {error.strerror}") from error
    if told != _seal_of(manifest):
        raise BundleInvalid(root / layout.MANIFEST, "was changed after the bundle was built")


def _verify(root: Path, name: str, entry: FileEntry, folders: set[str]) -> None:
    """Checks a file; `folders` are known to be inside the bundle, without links elsewhere."""
    path, folder = os.path.join(root, name), name.rpartition("/")[0]  # noqa: PTH118  (ten thousand of them)
    try:
        if folder not in folders or not PLAIN.fullmatch(name):
            _check_place(root, Path(name))
            folders.add(folder)
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            raise BundleInvalid(Path(path), "is not a file")
        if status.st_size != entry.size:
            raise BundleInvalid(Path(path), f"has {status.st_size} bytes, and {entry.size} were written")
        if _digest(path, entry.size) != entry.sha256:
            raise BundleInvalid(Path(path), "was changed after the bundle was built")
    except OSError as error:
        raise BundleInvalid(Path(path), f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a null byte in the name, or half of a surrogate pair
        raise BundleInvalid(Path(path), f"has no name that a file can have: {error}") from error


def _check_place(root: Path, name: Path) -> None:
    """Raises: BundleInvalid if the file lies outside the bundle"""
    inside = not name.anchor and ".." not in name.parts
    if not inside or (root / name.parent).resolve() != root.resolve() / name.parent:
        raise BundleInvalid(root / name, "lies outside the bundle")


def _digest(path: str, size: int) -> str:
    if size > SMALL:
        return sha256_of(Path(path))
    descriptor = os.open(path, os.O_RDONLY | BINARY)
    try:
        return hashlib.sha256(os.read(descriptor, size)).hexdigest()
    finally:
        os.close(descriptor)


def file_entries(root: Path, *, besides: Path | None = None) -> dict[str, FileEntry]:
    """Returns every file below `root` by its POSIX path, sorted; without the folder `besides`."""
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if Path(folder, name) != besides]
        files += [Path(folder, name) for name in names]
    return {
        path.relative_to(root).as_posix(): FileEntry(path.stat().st_size, sha256_of(path)) for path in sorted(files)
    }
