"""A chunk's outputs: out of the archive that the phone sent, checked, and kept as arrays in the run's folder."""

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
from bundler.errors import OutputsInvalid
from bundler.files import writing
from bundler.types import TensorSpec

Logits = dict[str, npt.NDArray[np.float32]]

PER_FILE = 4096  # bytes of headers and padding of a file in the archive, at most
BESIDE = 64 << 20  # bytes of what is written beside the outputs: the program's log of times


class Unsound(Exception):
    """What the phone computed is no use: another run of the chunk may mend it."""


def most_bytes(chunk: Chunk, specs: Sequence[TensorSpec]) -> int:
    """How large the archive of a chunk's outputs may be."""
    return len(chunk) * sum(_bytes_of(spec) + PER_FILE for spec in specs) + BESIDE


def read_outputs(
    archive: BinaryIO, announced: Announced, chunk: Chunk, specs: Sequence[TensorSpec], where: str
) -> Logits:
    """The outputs in an archive: tensor name -> float32 (lines of the chunk, *shape).

    Nothing is written by a name from the archive.

    Raises:
        OutputsInvalid: an entry is hostile, or is not what was announced; Unsound: an output is missing, of another
        size, or not finite
    """
    logits = {spec.name: np.empty((len(chunk), *spec.shape), np.float32) for spec in specs}
    places = _places(chunk, specs)
    missing, reader = set(places.values()), Reader(archive, most_bytes(chunk, specs))
    try:
        for entry in reader:
            name = _checked_name(entry, where)
            place = places.get(name)
            if place is None or place not in missing or not entry.is_file:
                continue
            spec, line = place
            what = f"output {spec.name} of line {chunk.start + line}"
            if entry.size != _bytes_of(spec):
                expected = _bytes_of(spec)
                raise Unsound(f"{what} has {entry.size} bytes, not {expected} ({expected // 4} float32 values)")
            raw = reader.read(entry)
            if hashlib.sha256(raw).hexdigest() != announced.sums.get(name):
                raise OutputsInvalid(f"{where}: output {name} is not what its checksum on the phone says")
            logits[spec.name][line] = _values(raw, spec, what)
            missing.discard(place)
    except TooLarge as error:
        raise OutputsInvalid(f"{where}: the archive holds more than the outputs that were announced") from error
    except (BrokenTar, OSError) as error:
        raise OutputsInvalid(f"{where}: the archive is broken: {error}") from error
    if missing:
        spec, line = min(missing, key=lambda place: (place[1], place[0].name))
        raise Unsound(f"output {spec.name} of line {chunk.start + line} is missing")
    return logits


def _places(chunk: Chunk, specs: Sequence[TensorSpec]) -> dict[str, tuple[TensorSpec, int]]:
    """What each file name in the archive holds: a tensor, and the line of the chunk."""
    return {
        alias: (spec, line)
        for line in range(len(chunk))
        for spec in specs
        for alias in layout.result_aliases(layout.result_file(spec.name, line))
    }


def _checked_name(entry: Entry, where: str) -> str:
    path = entry.name.removeprefix("./")
    if path.startswith("/") or ".." in path.split("/") or not (entry.is_file or entry.is_folder):
        raise OutputsInvalid(f"{where}: its archive holds {entry.name!r}, which is no plain file of the outputs")
    return path


def _values(raw: bytes, spec: TensorSpec, what: str) -> npt.NDArray[np.float32]:
    values = np.frombuffer(raw, "<f4").astype(np.float32)
    if not np.isfinite(values).all():
        at = int(np.flatnonzero(~np.isfinite(values))[0])
        raise Unsound(f"{what}: value {at} is {values[at]}, not a finite number")
    return values.reshape(spec.shape)


def _bytes_of(spec: TensorSpec) -> int:
    return 4 * int(np.prod(spec.shape))


def keep(logits: Mapping[str, npt.NDArray[np.float32]], run_folder: Path, chunk: Chunk) -> None:
    """Writes a chunk's outputs into the run's folder, whole or not at all.

    Raises:
        HostStorageFailed
    """
    with writing(_kept(run_folder, chunk)) as draft:
        write_arrays(draft, logits)


def kept_chunks(run_folder: Path) -> set[Chunk]:
    """The chunks whose outputs the run's folder holds."""
    names = (path.stem for path in (run_folder / layout.LOGITS).glob("*.npz"))
    return {Chunk.named(name) for name in names if CHUNK_NAME.fullmatch(name)}


def load(run_folder: Path, chunk: Chunk, specs: Sequence[TensorSpec]) -> Logits:
    """A chunk's outputs: tensor name -> float32 (lines of the chunk, *shape).

    Raises:
        OutputsInvalid: the file is not what `keep` wrote
    """
    path = _kept(run_folder, chunk)
    try:
        return read_arrays(path, {spec.name: (np.float32, (len(chunk), *spec.shape)) for spec in specs})
    except (OSError, ValueError) as error:
        raise OutputsInvalid(f"{path}: holds no outputs of chunk {chunk.name}: {error}") from error


def _kept(run_folder: Path, chunk: Chunk) -> Path:
    return run_folder / layout.LOGITS / f"{chunk.name}.npz"
