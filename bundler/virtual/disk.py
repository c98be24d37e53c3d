"""The room on the virtual phone's disk, where a fault makes it small: every write to a file asks here.

What is taken is measured: the sizes of all files below /data/local/tmp, as `ls` shows them. Removing files gives room
back. A process of the phone uses one disk for all its life, so `write` needs no other word for it.
"""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Disk:
    """A disk for the files in `folder`; None for no limit but the host's."""

    folder: Path
    capacity: int | None = None

    @classmethod
    def with_room(cls, folder: Path, room: int | None) -> "Disk":
        """A disk that takes so many bytes more than it holds now."""
        return cls(folder, None if room is None else _taken(folder) + room)

    def free(self) -> int:
        """The bytes that it still takes."""
        if self.capacity is None:
            return _host_room(self.folder)[1]
        return max(0, self.capacity - _taken(self.folder))

    def room(self, path: Path) -> tuple[int, int, int]:
        """The disk of `path`: all its bytes, those that are free, and those that a user may have of them."""
        if self.capacity is None:
            return _host_room(path)
        free = self.free()
        return self.capacity, free, free


def _host_room(path: Path) -> tuple[int, int, int]:
    system = os.statvfs(path)
    unit = system.f_frsize
    return system.f_blocks * unit, system.f_bfree * unit, system.f_bavail * unit


def _taken(folder: Path) -> int:
    """The bytes of all files below; of one with several names once."""
    total, seen = 0, set()
    pending = [os.fspath(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(entry.path)
                    elif status.st_nlink == 1:
                        total += status.st_size
                    elif status.st_ino not in seen:
                        seen.add(status.st_ino)
                        total += status.st_size
        except OSError:
            continue  # somebody removes it meanwhile
    return total


@dataclass
class _Use:
    """This process's disk, and how much it may write before it measures again."""

    disk: Disk | None = None
    credit: int = 0


_use = _Use()


def use(disk: Disk) -> None:
    """Has this process write to `disk` from now on."""
    _use.disk, _use.credit = disk if disk.capacity is not None else None, 0


def write(fd: int, data: bytes | memoryview) -> int:
    """os.write, but no more than the disk takes.

    Raises:
        OSError: ENOSPC if it takes nothing.
    """
    if _use.disk and data and stat.S_ISREG(os.fstat(fd).st_mode):
        if len(data) > _use.credit:
            free = _use.disk.free()
            if not free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data = data[:free]
            _use.credit = len(data) + (free - len(data)) // 2  # others write too
        _use.credit -= len(data)
    return os.write(fd, data)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Writes all of `data`.

    Raises:
        OSError: what there is room for has been written.
    """
    left = memoryview(data)
    while left:
        left = left[write(fd, left) :]


def write_file(path: Path, data: bytes) -> None:
    """A new file with this content, or as much of it as there is room for.

    Raises:
        OSError
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)
