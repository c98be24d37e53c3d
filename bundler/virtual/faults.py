"""How a virtual phone misbehaves: the faults, and the specs `NAME:NUMBER` in which they are asked for.

N counts from 0 over the phone's whole life, from its start to its stop: inferences and shell sessions; BYTES are of the
data of all sessions, without adb's packet headers. A fault happens once in that life where its description says no
other. Knows what faults there are, not how they come about.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bundler.errors import UsageError

ALWAYS = "always"

State = Literal["device", "unauthorized", "offline"]
"""What a phone looks like in `adb devices`: usable, its owner has not allowed this computer, it never answers."""


TOOLS = frozenset(
    "[ awk base64 basename bunzip2 bzcat cal cat chgrp chmod chown cksum clear cmp comm cp cpio cut date dd df "
    "diff dirname dmesg dos2unix du echo egrep env expand expr false fgrep file find flock fmt free fsync getconf "
    "grep groups gunzip gzip head hostname id install ionice kill killall ln log ls lsof md5sum mkdir mkfifo "
    "mknod mktemp more mount mv nc nice nl nohup nproc nsenter od paste patch pgrep pidof pkill pmap printenv "
    "printf ps pwd readelf readlink realpath renice rev rm rmdir sed seq setsid sh sha1sum sha224sum sha256sum "
    "sha384sum sha512sum sleep sort split stat strings stty sync tac tail tar taskset tee test time timeout top "
    "touch tr true truncate tty uname uniq unlink unshare uptime usleep uudecode uuencode vmstat watch wc which "
    "whoami xargs xxd yes zcat".split()
)
"""The tools of an Android phone (toybox's); those of them that the host has are the virtual phone's too."""

OF_THE_SHELL = frozenset("[ cd echo false kill printf pwd read test true ulimit umask wait".split())
"""What sh does itself, so that no fault can take it away."""

ANDROID = frozenset(("dumpsys", "getenforce", "getprop"))


@dataclass(frozen=True)
class Kind:
    """A kind of fault. `form` is how it is written: words in capitals stand for values, those in [] may be missing."""

    form: str
    description: str

    @property
    def name(self) -> str:
        return self.form.partition(":")[0].partition("[")[0]

    @property
    def parameters(self) -> list[str]:
        return re.findall(r":([A-Za-z_-]+)", self.form)

    @property
    def needed(self) -> int:
        """How many parameters there are at least."""
        return self.form.partition("[")[0].count(":")


KINDS = (
    Kind("cut-in:BYTES", "the adb connections are closed once so many bytes have come from the host"),
    Kind("cut-out:BYTES", "the same once so many bytes have gone to the host"),
    Kind("cut-run:N", "the adb connections are closed when the engine begins its inference N"),
    Kind("flip-in:BYTES", "one bit of the byte at this place of the data from the host is changed on the way"),
    Kind("flip-out:BYTES", "the same in the data to the host"),
    Kind("slow:BYTES_PER_S[:MS]", "a slow link: so many bytes a second and this delay, each way; always"),
    Kind(
        "disk:BYTES",
        "/data/local/tmp is a disk that takes so many more bytes, in pages of 4 KiB, then it is full; always",
    ),
    Kind("kill-run:N", "SIGKILL for the engine and its whole session when inference N begins"),
    Kind("restart:N[:SECONDS]", "the phone restarts when inference N begins: its storage stays; away for 1 s"),
    Kind("run-fail:N[:always]", "the engine fails at inference N with an error line (always: and ever after)"),
    Kind("run-crash:N[:always]", "the engine dies of SIGSEGV at inference N"),
    Kind("run-short:N[:always]", "the first output file of inference N is cut to half its size"),
    Kind("run-nan:N[:always]", "the first value of inference N's first output file is not a number"),
    Kind(
        "run-time:MS", "the engine takes this time an inference and does not compute: NOT the model's answers; always"
    ),
    Kind("unauthorized[:SECONDS]", "not allowed by its owner, for this time or for ever"),
    Kind("offline[:SECONDS]", "answers nothing, for this time or for ever"),
    Kind("mute-shell[:N]", "shell session N, or each one, is opened and never answers"),
    Kind("lacks:TOOL[-OPTION]", "the phone's tools lack this one, or this option of it (lacks:tar-z); always"),
    Kind("clock:SECONDS", "the phone's clock is ahead by this, or behind if negative; always"),
)


@dataclass(frozen=True)
class Fault:
    """A fault that was asked for."""

    name: str
    values: tuple[str, ...] = ()

    @property
    def number(self) -> int | None:
        """The first parameter as a whole number, None without one."""
        return int(float(self.values[0])) if self.values else None

    @property
    def always(self) -> bool:
        """Whether it goes on happening from its number on."""
        return ALWAYS in self.values

    def __str__(self) -> str:
        return ":".join((self.name, *self.values))


@dataclass(frozen=True)
class Faults:
    """All faults of a phone."""

    faults: tuple[Fault, ...] = ()

    def of(self, *names: str) -> list[Fault]:
        """Those of these kinds."""
        return [fault for fault in self.faults if fault.name in names]

    def numbers(self, name: str) -> list[int]:
        """The numbers of those of this kind that have one, rising."""
        return sorted(number for fault in self.of(name) if (number := fault.number) is not None)

    def number(self, name: str) -> int | None:
        """The number of the one of this kind; None without one."""
        return next(iter(self.numbers(name)), None)


def as_text() -> str:
    """All faults, each with what it does, as paragraphs for `--help`."""
    return "\n\n".join(["Faults:", *(f"{kind.form} - {kind.description}" for kind in KINDS)])


def parse_faults(specs: Sequence[str]) -> Faults:
    """The faults that `specs` ask for.

    Raises:
        UsageError: there is no such fault, or its parameters are wrong; the hint lists all.
    """
    return Faults(tuple(_parse(spec) for spec in specs))


def _parse(spec: str) -> Fault:
    name, *values = spec.split(":")
    kind = next((kind for kind in KINDS if kind.name == name), None)
    if kind is None:
        raise UsageError(f"--fault {spec}: no such fault", f"Faults: {', '.join(kind.form for kind in KINDS)}.")
    if not kind.needed <= len(values) <= len(kind.parameters):
        raise UsageError(f"--fault {spec}: wrong number of parameters", f"It is written {kind.form}.")
    for parameter, value in zip(kind.parameters, values, strict=False):
        if not _fits(parameter, value):
            raise UsageError(f"--fault {spec}: {value!r} is no {parameter}", f"It is written {kind.form}.")
    return Fault(name, tuple(values))


def _fits(parameter: str, value: str) -> bool:
    match parameter:
        case "TOOL":
            tool, dash, option = value.partition("-")
            return tool in TOOLS | ANDROID and tool not in OF_THE_SHELL and len(option) == len(dash)
        case "SECONDS":
            return re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,6})?", value) is not None
        case "always":
            return value == ALWAYS
    return re.fullmatch("[0-9]{1,15}", value) is not None
