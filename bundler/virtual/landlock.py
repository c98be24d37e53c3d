"""Confines processes by Landlock, the Linux kernel's access control for ordinary users.

A process and its children keep each layer of rules; no later layer allows what an earlier one forbids. Landlock does
not control chmod, chown, timestamps and stat. See landlock(7) and the kernel's userspace-api/landlock.rst.
"""

import ctypes
import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE = 1 << 13, 1 << 14
FILE_SYSTEM = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}
"""All access rights to files in each version of the interface (ABI); later versions add none that matters here."""
READ = EXECUTE | READ_FILE | READ_DIR
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
TCP = 0b11  # bind and connect, from ABI 4 on
SCOPES = 0b11  # abstract Unix sockets and signals, from ABI 6 on

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # system calls, the same on every architecture
_ASK_VERSION = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES = 38


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def version() -> int:
    """Returns the kernel's Landlock ABI; 0 if it has none (before Linux 5.13, switched off, or another system)."""
    if sys.platform != "linux":
        return 0
    return max(0, int(_libc().syscall(_CREATE, None, 0, _ASK_VERSION)))


def scope_signals() -> None:
    """Prevents this process and its children from sending signals to others; does nothing before ABI 6.

    Raises:
        OSError: the kernel refuses.
    """
    if version() >= 6:  # every layer that does not allow renaming between folders denies it
        _restrict(_Ruleset(REFER, 0, SCOPES), 24, [(Path("/"), REFER)])


def confine(*, readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Restricts this process and its children to these files and folders, and from ABI 4 on forbids TCP.

    Skips paths that do not exist. Does nothing if the kernel has no Landlock.

    Raises:
        OSError: the kernel refuses.
    """
    abi = version()
    if not abi:
        return
    everything = FILE_SYSTEM[min(abi, 3)]
    rules = [*((path, everything & READ) for path in readable), *((path, everything) for path in writable)]
    size = 16 if abi >= 4 else 8
    _restrict(_Ruleset(everything, TCP, 0), size, rules)


def _restrict(ruleset: _Ruleset, size: int, rules: Iterable[tuple[Path, int]]) -> None:
    number = _checked(_libc().syscall(_CREATE, ctypes.byref(ruleset), ctypes.c_size_t(size), 0))
    try:
        for path, allowed in rules:
            _allow(number, path, allowed)
        _checked(_libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
        _checked(_libc().syscall(_RESTRICT, number, 0))
    finally:
        os.close(number)


def _allow(ruleset: int, path: Path, allowed: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = _Beneath(allowed if path.is_dir() else allowed & OF_A_FILE, place)
        _checked(_libc().syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(place)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
