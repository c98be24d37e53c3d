"""What a benchmark ran on, in words."""

import importlib.metadata
import os
import platform
from pathlib import Path

PACKAGES = ("onnxruntime", "onnxruntime-qnn", "onnx", "numpy")


def described() -> str:
    """Processor, cores, system and the versions of what computes."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {_processor()}, {_system()}, Python {platform.python_version()}, {versions}"


def _processor() -> str:
    found = _value(Path("/proc/cpuinfo"), "model name", ":")
    return found or platform.machine()


def _system() -> str:
    return _value(Path("/etc/os-release"), "PRETTY_NAME", "=").strip('"') or platform.system()


def _value(path: Path, key: str, separator: str) -> str:
    """The value of the first line that begins with the key; empty where there is none."""
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(separator)[2].strip() for line in lines if line.startswith(key)), "")
