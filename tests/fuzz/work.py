"""The folder of this process that targets write their files to."""

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
    """The folder of this name, there from the first call on and never emptied."""
    found = _folder(os.getpid()) / name
    found.mkdir(exist_ok=True)
    return found
