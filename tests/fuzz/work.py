"""Provides this process's folder for the files of targets."""

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path


@cache
def _folder(_: int) -> Path:
    made = Path(tempfile.mkdtemp(prefix="mbqa-fuzz-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def folder(name: str) -> Path:
    """Returns the folder with this name, created at the first call and never emptied."""
    found = _folder(os.getpid()) / name
    found.mkdir(exist_ok=True)
    return found
