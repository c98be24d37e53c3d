"""Forks child processes without the daemon's open files and signal handlers, and watches them until they exit.

This module does not depend on adb. It requires a process with one thread, which runs the asyncio loop.
"""

import asyncio
import contextlib
import fcntl
import gc
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

CRASHED = 125
PIPE_SIZE = 1024 * 1024

Errors = Literal["separate", "merge", "keep"]
"""The destination of a child's standard error: its own pipe, standard output's, or the daemon's."""


class Reaper:
    """Collects the exit codes of children on SIGCHLD, so that none stays a zombie."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[int, asyncio.Future[int]] = {}
        loop.add_signal_handler(signal.SIGCHLD, self._collect)

    def watch(self, pid: int) -> asyncio.Future[int]:
        """Returns the child's future exit code: 128 plus the signal's number if a signal ended it."""
        future: asyncio.Future[int] = self._loop.create_future()
        self._waiting[pid] = future
        return future

    def close(self) -> None:
        """Stops watching; leaves children that still run to the next Reaper."""
        self._loop.remove_signal_handler(signal.SIGCHLD)

    def _collect(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                pid, status = ended
                code = os.waitstatus_to_exitcode(status)
                future = self._waiting.pop(pid, None)  # none: an orphan that the daemon adopted
                if future and not future.done():
                    future.set_result(code if code >= 0 else 128 - code)


@dataclass
class Child:
    """A running child and the daemon's non-blocking ends of its standard streams (-1: closed, or none)."""

    pid: int
    exited: asyncio.Future[int]
    stdin: int
    stdout: int
    stderr: int
    terminal: bool

    def hang_up(self) -> None:
        """Sends SIGHUP to the child's process group, like a closed terminal."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGHUP)

    def close_stdin(self) -> None:
        self.stdin = _close(self.stdin)

    def close_output(self) -> None:
        self.stdout, self.stderr = _close(self.stdout), _close(self.stderr)

    def close(self) -> None:
        self.close_stdin()
        self.close_output()


def fork_child(work: Callable[[], int], reaper: Reaper, *, errors: Errors, terminal: bool = False) -> Child:
    """Runs `work` in a child that leads its own session and exits with the result of `work`.

    Raises:
        OSError: no process or file descriptor is available.
    """
    ours, theirs = _open_terminal() if terminal else _open_pipes(errors)
    try:
        pid = _fork(work, theirs, terminal=terminal)
    except BaseException:
        for fd in ours:
            _close(fd)
        raise
    finally:
        for fd in {*theirs} - {2}:
            _close(fd)
    for fd in ours:
        if fd >= 0:
            os.set_blocking(fd, False)
    return Child(pid, reaper.watch(pid), *ours, terminal=terminal)


def _close(fd: int) -> int:
    if fd >= 0:
        os.close(fd)
    return -1


def _open_terminal() -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    master, slave = os.openpty()
    return (os.dup(master), master, -1), (slave, slave, slave)


def _open_pipes(errors: Errors) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    opened: list[int] = []
    try:
        opened += os.pipe()
        opened += os.pipe()
        if errors == "separate":
            opened += os.pipe()
    except OSError:
        for fd in opened:
            os.close(fd)
        raise
    child_in, stdin, stdout, child_out = opened[:4]
    for fd in (stdin, stdout):
        _widen(fd)
    if errors == "separate":
        return (stdin, stdout, opened[4]), (child_in, child_out, opened[5])
    return (stdin, stdout, -1), (child_in, child_out, 2 if errors == "keep" else child_out)


def _widen(pipe: int) -> None:
    """Enlarges a pipe to hold whole packets, if the system allows it."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_SIZE)


def _fork(work: Callable[[], int], fds: Sequence[int], *, terminal: bool) -> int:
    # A signal that reached the child before its handlers are reset would be written into the daemon's wake-up socket.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if not pid:
            _live(work, fds, terminal=terminal)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _live(work: Callable[[], int], fds: Sequence[int], *, terminal: bool) -> NoReturn:
    """Runs `work` in the child and exits: it never returns or raises into the daemon's code."""
    code = CRASHED
    try:
        gc.freeze()  # prevents finalizers of the daemon's objects from closing descriptors that are other files here
        if terminal:
            os.login_tty(fds[0])
        else:
            os.setsid()
            for number, fd in enumerate(fds):
                os.dup2(fd, number)
        _drop_inherited()
        code = work()
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(code & 0xFF)


def _drop_inherited() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
    for name in os.listdir("/dev/fd"):  # noqa: PTH208  (numbers, not paths)
        if int(name) > 2:
            with contextlib.suppress(OSError):
                os.close(int(name))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0)
