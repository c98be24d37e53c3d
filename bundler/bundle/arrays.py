"""Reads numpy files of known types and shapes: refuses another header before it allocates memory."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Kind = tuple[type[np.generic], tuple[int, ...]]
"""An array's element type (little-endian in the file) and shape."""


def map_array(path: Path, kind: Kind) -> npt.NDArray[Any]:
    """Returns the array of a .npy file, memory-mapped.

    Raises:
        ValueError: it has another type or shape; OSError
    """
    dtype, shape = kind
    with path.open("rb") as file:
        _check_header(file, kind)
        begin = file.tell()
        if file.seek(0, 2) != begin + _size(kind) or not _size(kind):
            raise ValueError("it was cut short, or is too long, or empty")
    return np.memmap(path, np.dtype(dtype).newbyteorder("<"), "r", begin, shape)


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes a .npz file. numpy's own differs between releases of Python, and so would a bundle's checksums.

    Raises:
        OSError
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getbuffer())


def read_arrays(path: Path, kinds: Mapping[str, Kind]) -> dict[str, npt.NDArray[Any]]:
    """Returns the arrays with these names from a .npz file.

    Raises:
        ValueError: an array is missing, or different; OSError
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _read(archive, name, kind) for name, kind in kinds.items()}
    except (OSError, ValueError):
        raise
    except Exception as error:  # a broken ZIP makes zipfile and zlib raise various errors
        raise ValueError(str(error) or type(error).__name__) from error


def _read(archive: zipfile.ZipFile, name: str, kind: Kind) -> npt.NDArray[Any]:
    with archive.open(f"{name}.npy") as file:
        _check_header(file, kind)
        raw = bytearray(file.read(_size(kind)))
    if len(raw) < _size(kind):
        raise ValueError(f"{name} was cut short")
    return np.frombuffer(raw, np.dtype(kind[0]).newbyteorder("<")).reshape(kind[1])


def _size(kind: Kind) -> int:
    return int(np.prod(kind[1], dtype=np.int64)) * np.dtype(kind[0]).itemsize


def _check_header(file: IO[bytes], kind: Kind) -> None:
    dtype, shape = np.dtype(kind[0]).newbyteorder("<"), kind[1]
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"its format is {version}")
    try:
        found, fortran, held = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # numpy parses the header as Python; errors differ by Python's release
        raise ValueError(f"its header is damaged: {error}") from error
    if (held, tuple(found)) != (dtype, shape) or fortran:
        raise ValueError(f"it is {held} {found}, not {dtype} {shape}")
