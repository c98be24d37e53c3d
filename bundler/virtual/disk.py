"""Gives a virtual phone a small disk: a tmpfs in the daemon's own mount namespace, which fills like a phone's disk."""

import ctypes
import os
import shutil
import tempfile
from pathlib import Path

_NEW_MOUNTS, _NEW_USERS = 0x20000, 0x10000000
_PRIVATE_BELOW = 0x4000 | 0x40000
_libc = ctypes.CDLL(None, use_errno=True)


def make_small(folder: Path, room: int) -> None:
    """Mounts a tmpfs over the folder, with its content and `room` more bytes of space.

    Only this process and its children see it. A tmpfs counts in pages of 4 KiB. Its content is lost when the last of
    these processes ends.

    Raises:
        OSError: this computer does not allow that to ordinary users.
    """
    user, group = os.geteuid(), os.getegid()
    _checked(_libc.unshare(_NEW_MOUNTS | (_NEW_USERS if user else 0)))
    if user:
        for file, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path(f"/proc/self/{file}").write_text(text, encoding="ascii")
    _checked(_libc.mount(None, b"/", None, _PRIVATE_BELOW, None))
    with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
        kept = shutil.copytree(folder, Path(aside) / "kept", symlinks=True)
        taken = sum(-(-path.lstat().st_size // 4096) * 4096 for path in kept.rglob("*") if path.is_file())
        options = f"size={taken + max(room, 1)},mode=0777"
        _checked(_libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options.encode()))
        shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
