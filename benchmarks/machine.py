"""Describes how figures were measured: the command, the machine, the versions."""

import importlib.metadata
import os
import platform
import sys
import textwrap
from pathlib import Path

WIDTH = 120
PACKAGES = ("onnxruntime", "onnxruntime-qnn", "onnx", "numpy")
PEERS = ("tokenizers", "transformers", "typer", "adbutils")
GIGABYTE = 1e9


def made_by(module: str, packages: tuple[str, ...] = PACKAGES) -> str:
    """Returns a sentence: the command of this process, which runs `module`, the machine and the versions it runs on."""
    machine = facts()
    told = ", ".join(f"{name} {version}" for name, version in versions(packages).items())
    return filled(
        f"Made by `{command(module)}` on {machine['cores']} cores of {machine['processor']}, "
        f"{machine['memory_gb']} GB, {machine['system']}, {told}."
    )


def command(module: str) -> str:
    """Returns the command line of this process."""
    return " ".join([f"python -m {module}", *sys.argv[1:]])


def facts() -> dict[str, object]:
    """Returns a description of the machine."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _value(Path("/proc/cpuinfo"), "model name", ":") or platform.machine(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIGABYTE),
        "system": _value(Path("/etc/os-release"), "PRETTY_NAME", "=").strip('"') or platform.system(),
    }


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Returns the versions of Python and of these packages, if installed."""
    found = {"Python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def filled(text: str) -> str:
    """Wraps the text to a page's width."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _value(path: Path, key: str, separator: str) -> str:
    """Returns the value of the first line that begins with the key; empty if there is none."""
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(separator)[2].strip() for line in lines if line.startswith(key)), "")
