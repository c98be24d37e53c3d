"""The bundle: a folder whose manifest names every file with size and SHA-256. Written whole or not at all."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bundler import layout
from bundler.bundle.drafts import drafting, writing
from bundler.bundle.lines import JsonLines
from bundler.bundle.records import SCHEMA, CalibrationRecord, Check, FileEntry, Manifest, ModelRecord, Window
from bundler.errors import BundleInvalid, FileUnreadable
from bundler.types import Question

__all__ = [
    "SCHEMA", "Bundle", "CalibrationRecord", "Check", "FileEntry", "Manifest", "ModelRecord", "Window", "drafting",
    "file_entries", "read_bundle", "read_windows", "sha256_of", "writing",
]  # fmt: skip


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files all agreed with the manifest when it was read."""

    path: Path
    manifest: Manifest
    id: str

    @property
    def device_files(self) -> dict[str, FileEntry]:
        """What goes to the phone beside the raw inputs: paths relative to the device folder."""
        prefix = f"{layout.DEVICE}/"
        return {p.removeprefix(prefix): entry for p, entry in self.manifest.files.items() if p.startswith(prefix)}

    @cached_property
    def questions(self) -> Sequence[Question]:
        return JsonLines(self.path / layout.HOST / layout.QUESTIONS, _question)

    @cached_property
    def offsets(self) -> npt.NDArray[np.int32]:
        """(windows, length, 2): the context's characters under each token of each input-list line; -1 outside.

        Mapped from the file, not read.
        """
        path = self.path / layout.HOST / layout.OFFSETS
        offsets: npt.NDArray[np.int32] = np.load(path, mmap_mode="r", allow_pickle=False)
        return offsets

    @cached_property
    def size_bytes(self) -> int:
        """Of all its files but the manifest, the runs aside."""
        inputs = sum(entry.size for _, entry in _input_files(self.path, self.manifest))
        return inputs + sum(entry.size for entry in self.manifest.files.values())


def _question(_: int, entry: dict[str, Any]) -> Question:
    return Question(**{**entry, "answers": tuple(entry["answers"])})


def read_windows(host: Path, outputs: Sequence[str]) -> Sequence[Window]:
    """The windows in a bundle's host folder, of a model with these outputs."""

    def window(line: int, entry: dict[str, Any]) -> Window:
        return Window(**entry, line=line, outputs={name: layout.result_file(name, line) for name in outputs})

    return JsonLines(host / layout.WINDOWS, window)


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
    for name in (layout.WINDOWS, layout.SUMS):
        if f"{layout.HOST}/{name}" not in manifest.files:
            raise BundleInvalid(manifest_path, f"does not name {layout.HOST}/{name}")
    for name, entry in manifest.files.items():
        _verify(path, name, entry)
    for name, entry in _input_files(path, manifest):
        _verify(path, name, entry)
    windows = read_windows(path / layout.HOST, [spec.name for spec in manifest.outputs])
    return Bundle(path, replace(manifest, windows=windows), hashlib.sha256(raw).hexdigest()[:16])


def _input_files(root: Path, manifest: Manifest) -> Iterator[tuple[str, FileEntry]]:
    """The raw inputs by the bundle's list of their checksums, which is checked already."""
    sizes = {spec.name: 4 * int(np.prod(spec.shape)) for spec in manifest.inputs}
    with (root / layout.HOST / layout.SUMS).open(encoding="utf-8") as sums:
        for line in sums:
            sha256, _, name = line.rstrip("\n").partition("  ")
            size = sizes.get(layout.tensor_of(name))
            if size is None:
                raise BundleInvalid(root / layout.HOST / layout.SUMS, f"names {name!r}, which is no input")
            yield f"{layout.DEVICE}/{name}", FileEntry(size, sha256)


def _verify(root: Path, name: str, entry: FileEntry) -> None:
    path = root / name
    if Path(name).anchor or ".." in Path(name).parts:
        raise BundleInvalid(path, "lies outside the bundle")
    try:
        size = path.stat().st_size
        if size != entry.size:
            raise BundleInvalid(path, f"has {size} bytes, and {entry.size} were written")
        if sha256_of(path) != entry.sha256:
            raise BundleInvalid(path, "was changed after the bundle was built")
    except OSError as error:
        raise BundleInvalid(path, f"cannot be read: {error.strerror}") from error


def file_entries(root: Path, *, besides: Path | None = None) -> dict[str, FileEntry]:
    """Every file below `root` by its POSIX path, sorted; what lies in the folder `besides` aside."""
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if Path(folder, name) != besides]
        files += [Path(folder, name) for name in names]
    return {
        path.relative_to(root).as_posix(): FileEntry(path.stat().st_size, sha256_of(path)) for path in sorted(files)
    }
