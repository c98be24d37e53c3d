"""Implements `sdk get`."""

import shutil
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import (
    ArchiveInvalid,
    FetchInterrupted,
    FileUnreadable,
    HostStorageFailed,
    SdkDamaged,
    SdkNotFetched,
)
from bundler.files import sha256_of
from bundler.sdk.archive import Archive, check_pins
from bundler.sdk.cache import Fetched, check, keep, locked, read_fetched
from bundler.sdk.remote import BY_HAND, CHUNK, START, Remote
from bundler.sdk.selection import PURPOSES, Purpose, is_wanted
from bundler.sdk.versions import Known, address, checked_version, default_version, known
from bundler.soc import Soc, known_socs
from bundler.types import Progress, silent

TIMEOUT_S = 3600.0
ROOM = "Make room, or choose another folder with MBQA_SDK_CACHE."
WHOLE = "archive.zip"


@dataclass(frozen=True, kw_only=True)
class GetRequest:
    """What to fetch, and from where: Qualcomm's public place, a `mirror` of it, or a local `archive`.

    `agree` is called before anything is fetched, with the future folder of the licence; it raises if the user does not
    agree. `warn` takes warnings for the user.
    """

    cache: Path
    agree: Callable[[Path], None]
    warn: Callable[[str], None]
    version: str | None = None
    purpose: Purpose = "run"
    soc: Soc | None = None
    mirror: str | None = None
    archive: Path | None = None
    insecure: bool = False
    user_agent: str = "mbqa-bundle"
    timeout_s: float = TIMEOUT_S


@dataclass(frozen=True)
class Got:
    """The SDK, and the number of bytes and requests that it cost; 0 if it was already here."""

    sdk: Fetched
    received: int = 0
    requests: int = 0


def get_sdk(request: GetRequest, progress: Progress = silent) -> Got:
    """Fetches the request's files into the cache folder, in addition to existing files of the same version.

    Raises:
        SdkUnreachable, SdkInUse, FolderOfOthers, HostStorageFailed: it cannot be fetched, or kept.
        ArchiveInvalid, NotAnSdk, FileUnreadable: the archive is refused; UsageError: the version or address is invalid.
        FetchInterrupted: by Ctrl-C; fetched bytes are kept for the next time.
    """
    version = checked_version(request.version or _version_of(request.archive) or default_version())
    try:
        with locked(request.cache, version) as draft, ExitStack() as stack:
            here, purpose, chips = _together(request, version)
            if here and here.covers(purpose, chips):
                try:
                    check(here)
                    return Got(here)
                except SdkDamaged as damaged:
                    request.warn(f"{damaged}: it is fetched again")
            request.agree(request.cache / version)
            draft.mkdir(exist_ok=True)
            wish = Fetched(request.cache / version, version, purpose, chips, "", 0, here.files if here else {})
            return _bring(request, wish, draft, stack, progress)
    except KeyboardInterrupt as error:
        raise FetchInterrupted(request.cache) from error
    except OSError as error:
        raise HostStorageFailed(error.filename or request.cache, error.strerror or str(error), ROOM) from error


def _version_of(archive: Path | None) -> str | None:
    if archive is None:
        return None
    with ExitStack() as stack:
        found = _open_file(archive, Known(""), stack)
        if not found.version:
            hint = f"Name it: `mbqa-bundle sdk get VERSION --zip {archive}`."
            raise ArchiveInvalid(archive, "does not say which version it has", hint)
        return found.version


def _together(request: GetRequest, version: str) -> tuple[Fetched | None, Purpose, tuple[str, ...] | None]:
    """Returns the existing SDK of the version, and the purpose and chips that cover it and the request."""
    chips = (request.soc.name,) if request.soc else None
    try:
        here = read_fetched(request.cache, version)
    except (SdkNotFetched, SdkDamaged):
        return None, request.purpose, chips
    both = None if here.chips is None or chips is None else tuple(sorted({*here.chips, *chips}))
    return here, max(request.purpose, here.purpose, key=PURPOSES.index), both


def _bring(request: GetRequest, wish: Fetched, draft: Path, stack: ExitStack, progress: Progress) -> Got:
    facts, remote = known(wish.version), None
    if request.archive is not None:
        archive = _open_file(request.archive, facts, stack)
    else:
        remote = Remote(
            address(wish.version, request.mirror),
            user_agent=request.user_agent, timeout_s=request.timeout_s, insecure=request.insecure,
        )  # fmt: skip
        stack.callback(remote.close)
        progress(f"asking {remote.name}", 0, None)
        archive = _open_remote(remote, request, facts, draft, stack, progress)
    if archive.version not in ("", wish.version):
        raise ArchiveInvalid(archive.name, f"is version {archive.version}, not {wish.version}", BY_HAND)
    hexagons = None if wish.chips is None else {known_socs()[chip].hexagon for chip in wish.chips}
    paths = [path for path in archive.entries if is_wanted(path, wish.purpose, hexagons)]
    files = archive.unpack(paths, draft, wish.root, progress)
    try:
        check_pins({path: digest for path, (_, digest) in wish.files.items()} | dict(facts.sha256), files, archive.name)
    except ArchiveInvalid:
        shutil.rmtree(draft)
        raise
    made = Fetched(wish.root, wish.version, wish.purpose, wish.chips, archive.name, archive.size, files)
    keep(made, draft)
    return Got(made, remote.received, remote.requests) if remote else Got(made)


def _open_remote(
    remote: Remote, request: GetRequest, facts: Known, draft: Path, stack: ExitStack, progress: Progress
) -> Archive:
    remote.find()
    if not remote.gives_parts:
        request.warn(f"{remote.name}: the server gives no parts of the archive, so all of it is fetched")
        path = draft / WHOLE
        stack.callback(path.unlink, missing_ok=True)
        with path.open("wb") as file:
            file.write(START)
            while piece := remote.read(CHUNK):
                file.write(piece)
                progress("fetching the whole archive", remote.tell(), remote.size)
        return _open_file(path, facts, stack, remote.name)
    _check_size(remote.name, remote.size, facts)
    return stack.enter_context(closing(Archive(remote, remote.name, remote.size)))


def _open_file(path: Path, facts: Known, stack: ExitStack, name: str = "") -> Archive:
    try:
        file = stack.enter_context(path.open("rb"))
        size = path.stat().st_size
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error
    _check_size(name or str(path), size, facts)
    if facts.sha256_begins and not sha256_of(path).startswith(facts.sha256_begins):
        what = f"is another file than the one known, whose SHA-256 begins {facts.sha256_begins}"
        raise ArchiveInvalid(name or path, what, BY_HAND)
    return stack.enter_context(closing(Archive(file, name or str(path), size)))


def _check_size(name: str, size: int, facts: Known) -> None:
    if facts.bytes is not None and size != facts.bytes:
        what = "is cut off" if size < facts.bytes else "is another file than the one known"
        raise ArchiveInvalid(name, f"{what}: {size} bytes instead of {facts.bytes}", "Download it again.")
