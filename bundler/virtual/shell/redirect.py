"""Redirections: the phone's files and here-documents onto file descriptors, and back."""

import fcntl
import os
import re
from collections.abc import Sequence

from bundler.virtual.shell.expand import Expander
from bundler.virtual.shell.state import State
from bundler.virtual.shell.syntax import Redirection
from bundler.virtual.storage import WRITABLE

OWN_DESCRIPTORS = 64
"""The shell's own file descriptors are at least this, out of the way of a script's 3 to 9."""
FLAGS = {
    "<": os.O_RDONLY,
    "<>": os.O_RDWR | os.O_CREAT,
    ">": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    ">|": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    ">>": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
}
STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,3})")
PIPE_CAPACITY = 4096

Undo = list[tuple[int, int | None]]
"""File descriptors that were replaced, with the copies that were made of them."""


class RedirectionError(Exception):
    """A redirection cannot be made; the text is mksh's."""


def away(fd: int) -> int:
    """Moves `fd` out of a script's reach."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, OWN_DESCRIPTORS)
    os.close(fd)
    return moved


def pipe() -> tuple[int, int]:
    """A pipe's two ends, out of a script's reach."""
    reader, writer = os.pipe()
    return away(reader), away(writer)


def standard_descriptor(path: str) -> int | None:
    """The file descriptor that a path such as /dev/stdin or /dev/fd/3 stands for."""
    match = DESCRIPTOR.fullmatch(path)
    return int(match.group(1)) if match else STANDARD.get(path)


class Descriptors:
    """Makes redirections in this process and takes them back."""

    def __init__(self, state: State, expander: Expander) -> None:
        self.state = state
        self.expander = expander
        self.copies: set[int] = set()

    def apply(self, redirections: Sequence[Redirection]) -> Undo:
        """Makes the redirections; hand the result to `restore` or `keep`.

        Raises:
            RedirectionError: and leaves everything as it was.
        """
        undo: Undo = []
        try:
            for redirection in redirections:
                self._one(redirection, undo)
        except BaseException:
            self.restore(undo)
            raise
        return undo

    def restore(self, undo: Undo) -> None:
        for fd, copy in reversed(undo):
            if copy is None:
                _close(fd)
            elif copy in self.copies:
                os.dup2(copy, fd)
        self.keep(undo)

    def keep(self, undo: Undo) -> None:
        for _, copy in undo:
            if copy in self.copies:
                os.close(copy)
                self.copies.discard(copy)

    def forget(self) -> None:
        """Closes the copies, in a child: what is redirected there is its parent's to take back."""
        for copy in self.copies:
            _close(copy)
        self.copies.clear()

    def _one(self, redirection: Redirection, undo: Undo) -> None:
        fd = redirection.fd
        source: int | None
        if redirection.operator in ("<<", "<<<"):
            source = self._document(redirection)
        elif redirection.operator in ("<&", ">&"):
            source = self._duplicate(redirection)
        else:
            source = self._open(redirection)
        targets = (1, 2) if redirection.operator in ("&>", "&>>") else (fd,)
        for target in targets:
            undo.append((target, self._copy(target)))
            if source is None:
                _close(target)
            else:
                os.dup2(source, target)
        if source is not None:
            os.close(source)

    def _copy(self, fd: int) -> int | None:
        try:
            copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, OWN_DESCRIPTORS)
        except OSError:
            return None
        self.copies.add(copy)
        return copy

    def _duplicate(self, redirection: Redirection) -> int | None:
        """A copy of the descriptor that is named, None to close."""
        text = self.expander.text(redirection.target)
        if text == "-":
            return None
        try:
            return fcntl.fcntl(int(text), fcntl.F_DUPFD_CLOEXEC, OWN_DESCRIPTORS)
        except (ValueError, OSError, OverflowError):
            raise RedirectionError(f"{redirection.operator}{text} : bad file descriptor") from None

    def _open(self, redirection: Redirection) -> int:
        operator = redirection.operator.removeprefix("&")
        path = self.expander.text(redirection.target)
        flags = FLAGS[operator]
        if operator == ">" and "noclobber" in self.state.options and self._is_file(path):
            raise RedirectionError(f"can't create {path}: File exists")
        try:
            return away(self._opened(path, flags))
        except OSError as error:
            verb = "open" if operator == "<" else "create"
            raise RedirectionError(f"can't {verb} {path}: {error.strerror}") from None

    def _opened(self, path: str, flags: int) -> int:
        standard = standard_descriptor(path)
        if standard is not None:
            return os.dup(standard)
        if not path:
            raise FileNotFoundError(2, "No such file or directory")
        writes = flags & (os.O_WRONLY | os.O_RDWR) != 0
        host = self.state.machine.storage.host(path, self.state.cwd, write=writes)
        return os.open(host, flags | os.O_NOFOLLOW, 0o666)

    def _is_file(self, path: str) -> bool:
        try:
            return self.state.machine.storage.host(path, self.state.cwd).is_file()
        except OSError:
            return False

    def _document(self, redirection: Redirection) -> int:
        """A descriptor that gives the here-document's text."""
        if redirection.document:
            text = self.expander.text(redirection.document.body)
        else:
            text = self.expander.text(redirection.target) + "\n"
        data = os.fsencode(text)
        if len(data) > PIPE_CAPACITY:
            return self._unnamed_file(data)
        reader, writer = pipe()
        os.write(writer, data)
        os.close(writer)
        return reader

    def _unnamed_file(self, data: bytes) -> int:
        path = self.state.machine.storage.host(f"{WRITABLE}/.document.{os.getpid()}", write=True)
        try:
            fd = away(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            path.unlink()
            while data:
                data = data[os.write(fd, data) :]
            os.lseek(fd, 0, os.SEEK_SET)
        except OSError as error:
            raise RedirectionError(f"can't create temporary file {path.name}: {error.strerror}") from None
        return fd


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return
