"""Writes questions and windows into the bundle's folder as a stream; only one batch of them is in memory."""

import errno
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np
import numpy.typing as npt

from bundler import layout
from bundler.platforms import BINARY
from bundler.types import Feature, Question

THREADS, BATCH = 2, 512  # files
BUFFER = 1 << 20  # a disk write switches threads, so that large, rare writes are faster
TO_JSON = json.JSONEncoder(ensure_ascii=False).encode
OF_WORDS = "input_ids"  # differs from window to window; the other inputs depend on lengths only


def kept_questions(questions: Iterable[Question], host: Path) -> Iterator[Question]:
    """Yields the questions and writes each to the bundle as it passes.

    Raises:
        OSError
    """
    with (host / layout.QUESTIONS).open("w", BUFFER, encoding="utf-8", newline="\n") as file:
        for question in questions:
            file.write(TO_JSON(vars(question)) + "\n")
            yield question


def write_windows(features: Iterable[Feature], names: Sequence[str], draft: Path) -> None:
    """Writes each window's inputs of these names as raw files of little-endian float32, the dtype that snpe-net-run
    reads; also their checksums, all offsets, and a line of JSON for each window.

    Raises:
        OSError
    """
    device, host = draft / layout.DEVICE, draft / layout.HOST
    for name in names:
        (device / layout.INPUTS / name).mkdir(parents=True)
    with (
        (host / layout.WINDOWS).open("w", BUFFER, encoding="utf-8", newline="\n") as windows,
        (host / layout.SUMS).open("w", BUFFER, encoding="utf-8", newline="\n") as sums,
        _array_file(host / layout.OFFSETS) as offsets,
        _RawFiles(device, sums) as files,
    ):
        for line, feature in enumerate(features):
            inputs = {name: files.path_of(name, line, feature.inputs[name]) for name in names}
            told = {"key": feature.key, "question_id": feature.question_id, "inputs": inputs}
            windows.write(TO_JSON(told) + "\n")
            offsets(feature.offsets)


class _RawFiles:
    """Raw inputs below the device folder; inputs that depend on lengths only are shared by all windows.

    Threads write the files while the next windows are made. The exit of the context waits for them.
    """

    def __init__(self, device: Path, sums: TextIO) -> None:
        self._device, self._sums = os.fspath(device), sums
        self._shared: dict[tuple[str, str], str] = {}
        self._threads = ThreadPoolExecutor(THREADS)
        self._batch: list[tuple[str, bytes]] = []
        self._jobs: deque[Future[None]] = deque()

    def path_of(self, name: str, line: int, values: npt.NDArray[np.int32]) -> str:
        """Returns the file with these values, relative to the device folder; writes it if it does not exist."""
        raw = values.astype("<f4").tobytes()
        sha256 = hashlib.sha256(raw).hexdigest()
        path = self._shared.get((name, sha256))
        if path is None:
            path = layout.input_file(name, line)
            self._sums.write(f"{sha256}  {path}\n")
            self._batch.append((f"{self._device}/{path}", raw))
            if name != OF_WORDS:
                self._shared[name, sha256] = path
            if len(self._batch) == BATCH:
                self._send()
        return path

    def _send(self) -> None:
        self._jobs.append(self._threads.submit(_write, self._batch))
        self._batch = []
        if len(self._jobs) > THREADS:
            self._jobs.popleft().result()

    def __enter__(self) -> "_RawFiles":
        return self

    def __exit__(self, *failure: object) -> None:
        if failure[0] is None:
            self._send()
        self._threads.shutdown(cancel_futures=failure[0] is not None)
        if failure[0] is None:
            for job in self._jobs:
                job.result()


def _write(files: Sequence[tuple[str, bytes]]) -> None:
    """Writes new small files. With ten thousand files, opening them the usual way takes most of the time."""
    for path, content in files:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, 0o666)
        try:
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        finally:
            os.close(descriptor)


@contextmanager
def _array_file(path: Path) -> Iterator[Callable[[npt.NDArray[np.int32]], None]]:
    """Provides a function that appends arrays of the same shape to a .npy file of int32 (count, *shape)."""
    count, shape = 0, ()

    def add(values: npt.NDArray[np.int32]) -> None:
        nonlocal count, shape
        if not count:
            shape = values.shape
            _write_header(file, (0, *shape))
        file.write(values.astype("<i4").tobytes())
        count += 1

    with path.open("wb", BUFFER) as file:
        yield add
        file.seek(0)  # numpy's header has room for a first axis of any length
        _write_header(file, (count, *shape))


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "<i4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
