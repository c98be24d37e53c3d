"""What made a page of figures, in words."""

import importlib.metadata
import os
import platform
import sys
import textwrap
from pathlib import Path

WIDTH = 120
PACKAGES = ("onnxruntime", "onnxruntime-qnn", "onnx", "numpy")


def made_by(module: str) -> str:
    """A sentence: the command of this process, which runs `module`, the machine and the versions it runs on."""
    command = " ".join([f"python -m {module}", *sys.argv[1:]])
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    machine = f"{len(os.sched_getaffinity(0))} cores of {_processor()}, {_system()}"
    told = f"Made by `{command}` on {machine}, Python {platform.python_version()}, {versions}."
    return filled(told)


def filled(text: str) -> str:
    """The text in lines of a page's width."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _processor() -> str:
    found = _value(Path("/proc/cpuinfo"), "model name", ":")
    return found or platform.machine()


def _system() -> str:
    return _value(Path("/etc/os-release"), "PRETTY_NAME", "=").strip('"') or platform.system()


def _value(path: Path, key: str, separator: str) -> str:
    """The value of the first line that begins with the key; empty where there is none."""
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(separator)[2].strip() for line in lines if line.startswith(key)), "")
