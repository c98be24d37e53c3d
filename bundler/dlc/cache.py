"""A cache of DLCs and fitted graphs, keyed by their inputs. Deletes the oldest entries above a size limit."""

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
    """Returns this user's cache folder."""
    import platformdirs

    return platformdirs.user_cache_path("mbqa-bundle", appauthor=False) / "dlc"


def cached(key: str = "*", content: str = "*") -> Path | None:
    """Returns the file with this key or SHA-256 and marks it as used now; None if there is none or it is damaged."""
    for path in sorted(cache_folder().glob(f"{key}-{content}.dlc")):
        with suppress(OSError):
            if path.stem.endswith(f"-{sha256_of(path)}"):
                path.touch()
                return path
    return None


def noted(key: str) -> Any:
    """Returns the JSON noted under this key, or None."""
    try:
        return json.loads((cache_folder() / f"{key}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def note(key: str, told: Any) -> None:
    """Writes JSON beside the DLCs. Does nothing if the folder cannot be written to."""
    with suppress(OSError, HostStorageFailed), writing(cache_folder() / f"{key}.json") as draft:
        draft.write_text(json.dumps(told, allow_nan=False), encoding="utf-8", newline="\n")


def keep(key: str, source: Path) -> None:
    """Copies the file into the cache and deletes the oldest others above the size limit. Does nothing if the folder
    cannot be written to."""
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
    """Keeps bytes by their checksum, on a cluster's worker that receives them."""
    with tempfile.TemporaryDirectory(prefix="mbqa-") as folder:
        path = Path(folder) / "content"
        path.write_bytes(content)
        keep(sha256, path)


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
