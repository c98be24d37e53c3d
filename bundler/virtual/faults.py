"""The faults of a virtual phone, and their specs `NAME:NUMBER`.

N counts from 0 over the phone's whole life, from its start to its stop: inferences and shell sessions. BYTES count the
data of all sessions, without adb's packet headers. A fault happens once in that life unless its description says
otherwise. Other modules implement the faults.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bundler.errors import UsageError

ALWAYS = "always"

State = Literal["device", "unauthorized", "offline"]
"""A phone's state in `adb devices`: usable, not allowed by its owner, or never answering."""


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
"""The tools of an Android phone (toybox's); the virtual phone has those that the host has."""

OF_THE_SHELL = frozenset("[ cd echo false kill printf pwd read test true ulimit umask wait".split())
"""Builtins of sh, which no fault can remove."""

ANDROID = frozenset(("dumpsys", "getenforce", "getprop"))


@dataclass(frozen=True)
class Kind:
    """A kind of fault. `form` is its syntax: words in capitals stand for values, parts in [] are optional."""

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
        """Returns the minimum number of parameters."""
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
    """A requested fault."""

    name: str
    values: tuple[str, ...] = ()

    @property
    def number(self) -> int | None:
        """Returns the first parameter as a whole number, or None without one."""
        return int(float(self.values[0])) if self.values else None

    @property
    def always(self) -> bool:
        """Returns whether it happens at every number from its own on."""
        return ALWAYS in self.values

    def __str__(self) -> str:
        return ":".join((self.name, *self.values))


@dataclass(frozen=True)
class Faults:
    """All faults of a phone."""

    faults: tuple[Fault, ...] = ()

    def of(self, *names: str) -> list[Fault]:
        """Returns the faults of these kinds."""
        return [fault for fault in self.faults if fault.name in names]

    def numbers(self, name: str) -> list[int]:
        """Returns the numbers of the faults of this kind, in ascending order."""
        return sorted(number for fault in self.of(name) if (number := fault.number) is not None)

    def number(self, name: str) -> int | None:
        """Returns the lowest number of the faults of this kind, or None."""
        return next(iter(self.numbers(name)), None)


def as_text() -> str:
    """Describes all faults, as paragraphs for `--help`."""
    return "\n\n".join(["Faults:", *(f"{kind.form} - {kind.description}" for kind in KINDS)])


def parse_faults(specs: Sequence[str]) -> Faults:
    """Parses the specs of faults.

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
