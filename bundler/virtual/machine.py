"""What a virtual phone is made of, whoever runs on it: a disk, properties, programs, faults. Knows nothing of adb."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bundler.virtual.disk import Disk
from bundler.virtual.faults import Faults
from bundler.virtual.life import Life
from bundler.virtual.storage import Storage


@dataclass(frozen=True)
class Process:
    """What a program on the virtual phone may see. It runs in a process of its own, file descriptors 0 to 2 set."""

    machine: "Machine"
    cwd: str
    env: Mapping[str, str]


Program = Callable[[Sequence[str], Process], int]
"""A program of the phone: takes argv (with its own name at 0), returns its exit code."""


@dataclass(frozen=True)
class Machine:
    """A virtual phone's disk, its properties (as getprop answers) and its programs beside the shell's own tools.

    `faults` are how it misbehaves; those that happen once need a `life` to remember it.
    """

    storage: Storage
    properties: Mapping[str, str]
    programs: Mapping[str, Program] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    life: Life | None = None
    disk: Disk = field(default_factory=lambda: Disk(Path("/")))
