"""What a virtual phone is made of, whoever runs on it: a disk, properties and programs. Knows nothing of adb."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

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
    """A virtual phone's disk, its properties (as getprop answers) and its programs beside the shell's own tools."""

    storage: Storage
    properties: Mapping[str, str]
    programs: Mapping[str, Program] = field(default_factory=dict)
