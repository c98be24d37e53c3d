"""DLCs and graphs that can be had again, by what they were made of: a folder with a limit, from which the oldest go."""

import hashlib
import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from bundler.errors import HostStorageFailed
from bundler.files import writing

MOST_BYTES = 4 << 30


def cache_folder() -> Path:
    """This user's folder for it."""
    import platformdirs

    return platformdirs.user_cache_path("mbqa-bundle", appauthor=False) / "dlc"


def cached(key: str = "*", content: str = "*") -> Path | None:
    """The file of this key, or with this SHA-256, which counts as used now; None where none of them is whole."""
    for path in sorted(cache_folder().glob(f"{key}-{content}.dlc")):
        with suppress(OSError):
            if path.stem.endswith(f"-{sha256_of(path)}"):
                path.touch()
                return path
    return None


def noted(key: str) -> Any:
    """What was noted under this key; None where nothing was."""
    try:
        return json.loads((cache_folder() / f"{key}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def note(key: str, told: Any) -> None:
    """Keeps some JSON beside the DLCs. A folder that cannot be written to keeps nothing."""
    with suppress(OSError, HostStorageFailed), writing(cache_folder() / f"{key}.json") as draft:
        draft.write_text(json.dumps(told, allow_nan=False), encoding="utf-8", newline="\n")


def keep(key: str, source: Path) -> None:
    """Puts a copy of the file into the folder; others go where it is too large. A folder that cannot be written to
    keeps nothing."""
    with suppress(OSError, HostStorageFailed):
        path = cache_folder() / f"{key}-{sha256_of(source)}.dlc"
        with writing(path) as draft:
            shutil.copyfile(source, draft)
        others = sorted((other.stat().st_mtime, other) for other in path.parent.glob("*.*") if other != path)
        room = MOST_BYTES - sum(other.stat().st_size for other in (path, *(other for _, other in others)))
        for _, other in others:
            if room < 0:
                room += other.stat().st_size
                other.unlink(missing_ok=True)


def keep_content(sha256: str, content: bytes) -> None:
    """Keeps bytes by their checksum, on the worker of a cluster that is sent them."""
    with tempfile.TemporaryDirectory(prefix="mbqa-") as folder:
        path = Path(folder) / "content"
        path.write_bytes(content)
        keep(sha256, path)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
