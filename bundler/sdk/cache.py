"""Manages the folder of fetched SDKs: one folder for each version, with a record of its files; checked at each use."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock

from bundler.errors import FolderOfOthers, SdkDamaged, SdkInUse, SdkNotFetched
from bundler.files import sha256_of
from bundler.model.sdk import sdk_from_environment
from bundler.platforms import is_of_others
from bundler.sdk.selection import PURPOSES, RUN, Purpose
from bundler.sdk.versions import VERSION, order

RECORD = "fetched.json"
VARIABLE = "MBQA_SDK_CACHE"


@dataclass(frozen=True)
class Fetched:
    """A fetched SDK, or parts of it: the purpose, the chips (None: all), the source, and each file's size and SHA-256
    by its path."""

    root: Path
    version: str
    purpose: Purpose
    chips: tuple[str, ...] | None
    source: str
    archive_bytes: int
    files: Mapping[str, tuple[int, str]]

    def covers(self, purpose: Purpose, chips: tuple[str, ...] | None) -> bool:
        enough = self.chips is None or (chips is not None and set(chips) <= set(self.chips))
        return enough and PURPOSES.index(purpose) <= PURPOSES.index(self.purpose)


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder of fetched SDKs: MBQA_SDK_CACHE, or a folder in this user's cache."""
    if named := environment.get(VARIABLE):
        return Path(named).expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("mbqa-bundle", appauthor=False) / "sdk"


def versions_in(cache: Path) -> list[str]:
    """Returns the fetched versions, newest first.

    Raises:
        FolderOfOthers
    """
    if not cache.is_dir():
        return []
    named = [path.parent.name for path in cache.glob(f"*/{RECORD}") if VERSION.fullmatch(path.parent.name)]
    if named and is_of_others(cache):
        raise FolderOfOthers(cache)
    return sorted(named, key=order, reverse=True)


def read_fetched(cache: Path, version: str) -> Fetched:
    """Reads a version's record.

    Raises:
        SdkNotFetched; SdkDamaged: the record is invalid
    """
    root = cache / version
    if version not in versions_in(cache):
        raise SdkNotFetched(version)
    try:
        told = json.loads((root / RECORD).read_text(encoding="utf-8"))
        files = {str(path): (int(size), str(digest)) for path, (size, digest) in told["files"].items()}
        chips = None if told["chips"] is None else tuple(map(str, told["chips"]))
        purpose: Purpose = PURPOSES[PURPOSES.index(told["purpose"])]
        made = Fetched(root, version, purpose, chips, str(told["source"]), int(told["archive_bytes"]), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SdkDamaged(root, version, f"{RECORD} is damaged") from error
    if told.get("version") != version or not files:
        raise SdkDamaged(root, version, f"{RECORD} is of another version, or of nothing")
    return made


def check(fetched: Fetched) -> None:
    """Compares every file's size, and the SHA-256 of files for phones.

    Raises:
        SdkDamaged
    """
    for path, (size, digest) in fetched.files.items():
        file = fetched.root / path
        try:
            same = not file.is_symlink() and file.stat().st_size == size
            same = same and (not RUN.fullmatch(path) or sha256_of(file) == digest)
        except OSError:
            same = False
        if not same:
            raise SdkDamaged(fetched.root, fetched.version, f"{path} is not the file that was fetched")


def find(cache: Path, version: str | None = None) -> Fetched | None:
    """Returns a fetched SDK after a check; the newest if no version is named; None if none was fetched.

    Raises:
        SdkNotFetched, SdkDamaged, FolderOfOthers
    """
    if version is None and not versions_in(cache):
        return None
    fetched = read_fetched(cache, version or versions_in(cache)[0])
    check(fetched)
    return fetched


def default_sdk(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Returns the default SDK: from the vendor's variables, else the newest that was fetched.

    Raises:
        SdkDamaged, FolderOfOthers
    """
    if named := sdk_from_environment(environment):
        return named
    fetched = find(cache_folder(environment))
    return fetched.root if fetched else None


@contextmanager
def locked(cache: Path, version: str) -> Iterator[Path]:
    """Locks a version and provides the folder for its draft; no other process works on it until the block ends.

    Raises:
        SdkInUse; FolderOfOthers
    """
    cache.mkdir(parents=True, exist_ok=True)
    if is_of_others(cache):
        raise FolderOfOthers(cache)
    try:
        with filelock.FileLock(cache / f".{version}.lock", timeout=0):
            yield cache / f".{version}.part"
    except filelock.Timeout as error:
        raise SdkInUse(cache, version) from error


def keep(fetched: Fetched, draft: Path) -> None:
    """Makes the draft the folder of its version, with a record; removes other files from the draft."""
    named = {draft / path for path in fetched.files}
    for path in sorted(draft.rglob("*"), reverse=True):
        if path.is_symlink() or (path.is_file() and path not in named):
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    text = json.dumps({key: value for key, value in asdict(fetched).items() if key != "root"}, indent=1)
    (draft / RECORD).write_text(text, encoding="utf-8", newline="\n")
    old = draft.with_name(f".{fetched.version}.old")
    shutil.rmtree(old, ignore_errors=True)
    if fetched.root.exists():
        fetched.root.rename(old)
    draft.rename(fetched.root)
    shutil.rmtree(old, ignore_errors=True)


def remove(cache: Path, version: str) -> bool:
    """Removes a version and its drafts; returns whether there was anything.

    Raises:
        SdkInUse; FolderOfOthers
    """
    with locked(cache, version) as draft:
        there = [path for path in (cache / version, draft, draft.with_name(f".{version}.old")) if path.exists()]
        for path in there:
            (path / RECORD).unlink(missing_ok=True)  # first, so that a half-removed SDK is not used
            shutil.rmtree(path)
    return bool(there)
