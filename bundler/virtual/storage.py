"""The virtual phone's disk: a host folder that serves as the phone's root, with symbolic links resolved inside it.

Independent of adb and the shell. Every path of the sync service goes through `Storage.host`, so nothing outside the
folder is ever read or written, whatever links and `..` a path contains.
"""

import errno
import os
import re
import stat
import tempfile
from pathlib import Path

WRITABLE = "/data/local/tmp"
DEVICES = {"/dev/null": Path("/dev/null"), "/dev/zero": Path("/dev/zero"), "/dev/urandom": Path("/dev/urandom")}
FOLDERS = ("data/local/tmp", "dev", "sdcard", "system/bin", "system/lib64", "vendor/lib64")
MAX_LINKS = 40
SAFE = re.compile(r"[\w@%+=:,./-]+", re.ASCII)


class Storage:
    """A phone's file system below the host folder `root`.

    `place` is the same folder under a name that a shell accepts without quotes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.place = self.root

    def create(self) -> None:
        """Creates the folders that every phone has, and a link to `root` if its own name needs quotes."""
        for folder in FOLDERS:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        for device in DEVICES:
            (self.root / device[1:]).touch()
        if not SAFE.fullmatch(str(self.root)):
            self.place = Path(tempfile.mkdtemp(prefix="mbqa-phone-")) / "storage"
            self.place.symlink_to(self.root)

    def close(self) -> None:
        """Removes the link that `create` made, if any."""
        if self.place != self.root:
            self.place.unlink(missing_ok=True)
            self.place.parent.rmdir()

    def _inside(self, path: str) -> str:
        """Converts an absolute host path, which the phone's shell may print, to the phone's; keeps other paths."""
        for host in (str(self.place), str(self.root)):
            if path == host or path.startswith(f"{host}/"):
                return path[len(host) :] or "/"
        return path

    def resolve(self, path: str, cwd: str = "/", *, follow: bool = True) -> str:
        """Returns the phone's canonical absolute path of `path`; follows the last link if `follow`.

        Raises:
            OSError: ELOOP for a circle of links; ENOENT or ENOTDIR if `..` leaves what is not a folder; EINVAL.
        """
        if "\0" in path:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        pending = (self._inside(path) if path.startswith("/") else f"{cwd}/{path}").split("/")[::-1]
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
                    target, done = self._inside(target), []
                pending.extend(target.split("/")[::-1])
            else:
                done.append(part)
        return "/" + "/".join(done)

    def _check_folder(self, parts: list[str], path: str) -> None:
        """Checks, like a kernel, that `..` leaves a folder."""
        status = os.stat(self.root.joinpath(*parts))  # noqa: PTH116  (raises with the right errno)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)

    def host(self, path: str, cwd: str = "/", *, follow: bool = True, write: bool = False) -> Path:
        """Returns the host's path of the phone's `path`.

        Raises:
            OSError: ELOOP; EROFS if `write` and the path lies outside /data/local/tmp.
        """
        resolved = self.resolve(path, cwd, follow=follow)
        if resolved in DEVICES:
            return DEVICES[resolved]
        if write and not (resolved == WRITABLE or resolved.startswith(WRITABLE + "/")):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return self.root / resolved[1:]
