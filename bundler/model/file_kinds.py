"""Detects a file's kind by its first bytes, so that errors can name what was given instead of a model."""

import json
from pathlib import Path

from bundler.errors import FileUnreadable, ModelInvalid

HTML = ("is an HTML page, not a model", "Download the file itself: on huggingface.co, its /resolve/ link.")
OTHER_KINDS = (
    (0, b"version https://git-lfs", "is a Git LFS pointer, not the file itself", "Fetch the file: `git lfs pull`."),
    (0, b"<!doctype", *HTML),
    (0, b"<html", *HTML),
    (0, b"\x1f\x8b", "is packed with gzip", "Unpack it with gunzip, and give the .onnx file."),
    (0, b"pk\x03\x04", "is a zip archive, or PyTorch's file", "Unpack it, or give the folder with config.json."),
    (4, b"tfl3", "is a TensorFlow Lite model", "Export the model to ONNX, for example with optimum-cli."),
    (0, b"\x80\x02", "is a pickle, as PyTorch's older files are", "Give the folder that holds it, with config.json."),
    (8, b'{"', "is a safetensors file", "Give the folder that holds it, config.json and the tokenizer."),
)
"""Files of other kinds: the offset of their mark, the mark in lower case, what the file is, and what to do."""
WEIGHTS = (b"pk\x03\x04", b"\x80\x02", b'{"')
"""The marks of files that hold a model's weights."""
HEADER_BYTES = 100 << 20  # of safetensors' header; safetensors sets this limit itself


def check_kind(path: Path, *, weights: bool = False) -> None:
    """Rejects files of other kinds. Accepts files of weights if `weights` is set.

    Raises:
        FileUnreadable, ModelInvalid
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error
    for place, mark, what, hint in OTHER_KINDS:
        if head[place:].lstrip().lower().startswith(mark) and not (weights and mark in WEIGHTS):
            raise ModelInvalid(path, what, hint)


def check_whole(path: Path) -> None:
    """Rejects a truncated safetensors file, by the sizes in its header.

    Raises:
        FileUnreadable, ModelInvalid
    """
    hint = "Get the file again: it was cut short while it was downloaded or copied."
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= min(size, HEADER_BYTES) else None
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise ModelInvalid(path, "is not a safetensors file, or was cut short in its header", hint)
    ends = [each["data_offsets"][1] for name, each in header.items() if name != "__metadata__" and _tells_end(each)]
    needed = 8 + length + max(ends, default=0)
    if size < needed:
        raise ModelInvalid(path, f"has {size:,} bytes of {needed:,}", hint)


def _tells_end(entry: object) -> bool:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    return isinstance(offsets, list) and len(offsets) == 2 and isinstance(offsets[1], int)
