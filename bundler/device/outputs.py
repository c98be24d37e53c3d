"""Reads a chunk's outputs from the phone's archive, checks them, and keeps them as arrays in the run's folder."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from bundler import layout
from bundler.bundle.arrays import read_arrays, write_arrays
from bundler.device.chunks import CHUNK_NAME, Chunk
from bundler.device.job import Announced
from bundler.device.tarball import BrokenTar, Entry, Reader, TooLarge
from bundler.device.timings import LARGEST_LOG
from bundler.errors import OutputsInvalid
from bundler.files import writing
from bundler.types import TensorSpec

Logits = dict[str, npt.NDArray[np.float32]]

PER_FILE = 4096  # bytes of headers and padding of a file in the archive, at most
BESIDE = 64 << 20  # bytes of other files beside the outputs: the engine's log of times


class Unsound(Exception):
    """The phone computed unusable outputs: another run of the chunk may give better ones."""


def most_bytes(chunk: Chunk, specs: Sequence[TensorSpec]) -> int:
    """Returns the largest allowed size of the archive of a chunk's outputs."""
    return len(chunk) * sum(_bytes_of(spec) + PER_FILE for spec in specs) + BESIDE


def read_outputs(
    archive: BinaryIO, announced: Announced, chunk: Chunk, specs: Sequence[TensorSpec], where: str, time_log: str = ""
) -> tuple[Logits, bytes]:
    """Returns the outputs in an archive: tensor name -> float32 (lines of the chunk, *shape); and the content of the
    engine's log of times, the file `time_log`, or nothing.

    Never writes to a path from the archive.

    Raises:
        OutputsInvalid: an entry is hostile, or differs from the announcement; Unsound: an output is missing, of another
        size, or not finite
    """
    logits = {spec.name: np.empty((len(chunk), *spec.shape), np.float32) for spec in specs}
    places, sizes = _places(chunk, specs), {spec.name: _bytes_of(spec) for spec in specs}
    missing, reader, log = set(places.values()), Reader(archive, most_bytes(chunk, specs)), b""
    try:
        for entry in reader:
            name = _checked_name(entry, where)
            place = places.get(name)
            if name == time_log and entry.is_file and entry.size <= LARGEST_LOG:
                log = _checked(reader.read(entry), name, announced, where)
            if place is None or place not in missing or not entry.is_file:
                continue
            line, tensor = place
            if entry.size != sizes[tensor]:
                what = f"{_named(chunk, *place)} has {entry.size} bytes"
                raise Unsound(f"{what}, not {sizes[tensor]} ({sizes[tensor] // 4} float32 values)")
            raw = _checked(reader.read(entry), name, announced, where)
            logits[tensor][line].reshape(-1)[:] = np.frombuffer(raw, "<f4")
            missing.discard(place)
    except TooLarge as error:
        raise OutputsInvalid(f"{where}: the archive holds more than the outputs that were announced") from error
    except (BrokenTar, OSError) as error:
        raise OutputsInvalid(f"{where}: the archive is broken: {error}") from error
    if missing:
        raise Unsound(f"{_named(chunk, *min(missing))} is missing")
    for tensor, values in logits.items():
        _check_finite(values.reshape(len(chunk), -1), chunk, tensor)
    return logits, log


def _checked(raw: bytes, name: str, announced: Announced, where: str) -> bytes:
    """Returns a file's content. Raises: OutputsInvalid, where its checksum is not the announced one"""
    if hashlib.sha256(raw).hexdigest() != announced.sums.get(name):
        raise OutputsInvalid(f"{where}: output {name} is not what its checksum on the phone says")
    return raw


def _places(chunk: Chunk, specs: Sequence[TensorSpec]) -> dict[str, tuple[int, str]]:
    """Maps each file name in the archive to its line of the chunk and its tensor."""
    return {
        alias: (line, spec.name)
        for line in range(len(chunk))
        for spec in specs
        for alias in layout.result_aliases(layout.result_file(spec.name, line))
    }


def _checked_name(entry: Entry, where: str) -> str:
    path = entry.name.removeprefix("./")
    if path.startswith("/") or ".." in path.split("/") or not (entry.is_file or entry.is_folder):
        raise OutputsInvalid(f"{where}: its archive holds {entry.name!r}, which is not a plain file of the outputs")
    return path


def _named(chunk: Chunk, line: int, tensor: str) -> str:
    return f"output {tensor} of line {chunk.start + line}"


def _check_finite(values: npt.NDArray[np.float32], chunk: Chunk, tensor: str) -> None:
    """Raises: Unsound if a value is not finite"""
    odd = np.argwhere(~np.isfinite(values))
    if len(odd):
        line, at = odd[0].tolist()
        raise Unsound(f"{_named(chunk, line, tensor)}: value {at} is {values[line, at]}, not a finite number")


def _bytes_of(spec: TensorSpec) -> int:
    return 4 * int(np.prod(spec.shape))


def keep(logits: Mapping[str, npt.NDArray[np.float32]], run_folder: Path, chunk: Chunk) -> None:
    """Writes a chunk's outputs into the run's folder, atomically.

    Raises:
        HostStorageFailed
    """
    with writing(_kept(run_folder, chunk)) as draft:
        write_arrays(draft, logits)


def kept_chunks(run_folder: Path) -> set[Chunk]:
    """Returns the chunks whose outputs are in the run's folder."""
    names = (path.stem for path in (run_folder / layout.LOGITS).glob("*.npz"))
    return {Chunk.named(name) for name in names if CHUNK_NAME.fullmatch(name)}


def load(run_folder: Path, chunk: Chunk, specs: Sequence[TensorSpec]) -> Logits:
    """Loads a chunk's outputs: tensor name -> float32 (lines of the chunk, *shape).

    Raises:
        OutputsInvalid: `keep` did not write such a file
    """
    path = _kept(run_folder, chunk)
    try:
        return read_arrays(path, {spec.name: (np.float32, (len(chunk), *spec.shape)) for spec in specs})
    except (OSError, ValueError) as error:
        raise OutputsInvalid(f"{path}: holds no outputs of chunk {chunk.name}: {error}") from error


def _kept(run_folder: Path, chunk: Chunk) -> Path:
    return run_folder / layout.LOGITS / f"{chunk.name}.npz"
