"""Questions and windows into the bundle's folder as they come: at no time are more of them in memory than a batch."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np
import numpy.typing as npt

from bundler import layout
from bundler.types import Feature, Question

OF_WORDS = "input_ids"  # differs from window to window; the other inputs tell lengths only


def kept_questions(questions: Iterable[Question], host: Path) -> Iterator[Question]:
    """The questions, each written down as it passes.

    Raises:
        OSError
    """
    with (host / layout.QUESTIONS).open("w", encoding="utf-8", newline="\n") as file:
        for question in questions:
            file.write(json.dumps(vars(question), ensure_ascii=False) + "\n")
            yield question


def write_windows(features: Iterable[Feature], names: Sequence[str], draft: Path) -> None:
    """Each window's inputs of these names as raw files of little-endian float32, the dtype that snpe-net-run reads;
    their checksums; all offsets; and a line that tells of the window.

    Raises:
        OSError
    """
    device, host = draft / layout.DEVICE, draft / layout.HOST
    for name in names:
        (device / layout.INPUTS / name).mkdir(parents=True)
    with (
        (host / layout.WINDOWS).open("w", encoding="utf-8", newline="\n") as windows,
        (host / layout.SUMS).open("w", encoding="utf-8", newline="\n") as sums,
        _array_file(host / layout.OFFSETS) as offsets,
    ):
        files = _RawFiles(device, sums)
        for line, feature in enumerate(features):
            inputs = {name: files.path_of(name, line, feature.inputs[name]) for name in names}
            told = {"key": feature.key, "question_id": feature.question_id, "inputs": inputs}
            windows.write(json.dumps(told, ensure_ascii=False) + "\n")
            offsets(feature.offsets)


class _RawFiles:
    """Raw inputs below the device folder; those that tell lengths only are written once for all windows."""

    def __init__(self, device: Path, sums: TextIO) -> None:
        self._device, self._sums = os.fspath(device), sums
        self._shared: dict[tuple[str, str], str] = {}

    def path_of(self, name: str, line: int, values: npt.NDArray[np.int32]) -> str:
        """The file with these values, relative to the device folder; written if there is none."""
        raw = values.astype("<f4").tobytes()
        sha256 = hashlib.sha256(raw).hexdigest()
        path = self._shared.get((name, sha256))
        if path is None:
            path = layout.input_file(name, line)
            _write(f"{self._device}/{path}", raw)
            self._sums.write(f"{sha256}  {path}\n")
            if name != OF_WORDS:
                self._shared[name, sha256] = path
        return path


def _write(path: str, content: bytes) -> None:
    """A new small file: of ten thousand files, opening them as Python does takes most of the time."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        if os.write(descriptor, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(descriptor)


@contextmanager
def _array_file(path: Path) -> Iterator[Callable[[npt.NDArray[np.int32]], None]]:
    """Takes arrays of the same shape, one after the other, into a .npy file of int32 (count, *shape)."""
    count, shape = 0, ()

    def add(values: npt.NDArray[np.int32]) -> None:
        nonlocal count, shape
        if not count:
            shape = values.shape
            _write_header(file, (0, *shape))
        file.write(values.astype("<i4").tobytes())
        count += 1

    with path.open("wb") as file:
        yield add
        file.seek(0)  # numpy's header has room for a first axis of any length
        _write_header(file, (count, *shape))


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "<i4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
