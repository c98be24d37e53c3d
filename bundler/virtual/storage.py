"""The virtual phone's disk: a folder of the host that plays the phone's root, with symbolic links resolved inside it.

Knows nothing of adb or the shell. Every path that reaches the host's file system goes through `Storage.host`,
so nothing outside the folder is ever read or written, whatever links and `..` a path holds.
"""

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from bundler.virtual import proc

WRITABLE = "/data/local/tmp"
DEVICES = {"/dev/null": Path("/dev/null"), "/dev/zero": Path("/dev/zero"), "/dev/urandom": Path("/dev/urandom")}
FOLDERS = ("data/local/tmp", "dev", "proc", "sdcard", "system/bin", "system/lib64", "vendor/lib64")
MAX_LINKS = 40
SENSORS = {"cpu-0-0-0": 41_300, "nsphvx-0": 39_800, "skin-therm": 31_200}
"""The temperatures that the phone can be asked for, in thousandths of a degree."""


class Storage:
    """A phone's file system below the host folder `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def create(self, programs: Iterable[str] = ()) -> None:
        """Makes the folders that every phone has, and an entry in /system/bin for each program alone, and boots."""
        for folder in FOLDERS:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        for device in DEVICES:
            (self.root / device[1:]).touch()
        for number, (kind, temperature) in enumerate(SENSORS.items()):
            zone = self.root / f"sys/class/thermal/thermal_zone{number}"
            zone.mkdir(parents=True, exist_ok=True)
            (zone / "type").write_text(f"{kind}\n", encoding="ascii")
            (zone / "temp").write_text(f"{temperature}\n", encoding="ascii")
        self.boot()
        wanted = set(programs)
        for entry in (self.root / "system/bin").iterdir():
            if entry.name not in wanted:
                entry.unlink()
        for program in wanted:
            entry = self.root / "system/bin" / program
            if not entry.exists():
                entry.touch(mode=0o755)

    def boot(self) -> None:
        """Has the phone begin anew: no processes, another boot id."""
        proc.boot(self.root)

    def resolve(self, path: str, cwd: str = "/", *, follow: bool = True) -> str:
        """The phone's canonical absolute path of `path`; the last link is followed where `follow`.

        Raises:
            OSError: ELOOP for a circle of links; ENOENT or ENOTDIR where `..` leaves what is no folder; EINVAL.
        """
        if "\0" in path:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        pending = (path if path.startswith("/") else f"{cwd}/{path}").split("/")[::-1]
        done: list[str] = []
        links = 0
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                self._check_folder(done, path)
                del done[-1:]
                continue
            here = self.root.joinpath(*done, part)
            if here.is_symlink() and (follow or pending):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(here)  # noqa: PTH115  (a Path would lose a trailing slash)
                if target.startswith("/"):
                    done = []
                pending.extend(target.split("/")[::-1])
            else:
                done.append(part)
        return "/" + "/".join(done)

    def _check_folder(self, parts: list[str], path: str) -> None:
        """Sees to it that what `..` leaves is a folder, as a kernel does."""
        status = os.stat(self.root.joinpath(*parts))  # noqa: PTH116  (raises with the right errno)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)

    def host(self, path: str, cwd: str = "/", *, follow: bool = True, write: bool = False) -> Path:
        """The host's path of the phone's `path`.

        Raises:
            OSError: ELOOP; EROFS where `write` and the path lies outside /data/local/tmp.
        """
        resolved = self.resolve(path, cwd, follow=follow)
        if resolved in DEVICES:
            return DEVICES[resolved]
        if write and not (resolved == WRITABLE or resolved.startswith(WRITABLE + "/")):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        if f"{resolved}/".startswith("/proc/"):
            resolved = proc.up_to_date(self.root, resolved)
        return self.root / resolved[1:]
