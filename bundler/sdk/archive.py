"""Reads the SDK's archive: checks its directory before anything is written, then unpacks files and checks them."""

import hashlib
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from bundler.errors import ArchiveInvalid, HostStorageFailed, NotAnSdk
from bundler.files import sha256_of
from bundler.sdk.remote import START, Remote
from bundler.types import Progress

Source = Remote | IO[bytes]
ROOT = re.compile(r"((?:[^/]+/)*?)(?:bin|lib)/")
NUMBER = re.compile(r"(?:^|[/v-])(\d+\.\d+\.\d+(?:\.\d+)?)/$")
BAD_NAME = re.compile(r"^/|\\|(?:^|/)\.\.(?:/|$)|[:\x00-\x1f]|//")
KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
HEADER = 30
SLACK = 1 << 12  # bytes that an entry may have besides its name and its content
MOST_TIMES, MOST_BYTES = 1032, 1 << 36  # deflate's maximum; no SDK is this large
CHUNK = 1 << 18
BROKEN = (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, OverflowError, struct.error, zlib.error)


@dataclass(frozen=True)
class Entry:
    """A file of the archive, stored in its bytes [start, end)."""

    info: zipfile.ZipInfo
    start: int
    end: int


class Archive:
    """An SDK's archive. `version` is the number in the name of its inner folder, or empty; `entries` has each file, by
    its path below that folder.

    Raises:
        ArchiveInvalid: it is no archive, is cut off, or has impossible names or sizes; NotAnSdk: nothing for phones.
    """

    def __init__(self, source: Source, name: str, size: int) -> None:
        self.name, self.size, self._source = name, size, source
        self._zip = self._opened(source)
        infos = sorted(self._zip.infolist(), key=lambda info: info.header_offset)
        for info in infos:
            if BAD_NAME.search(info.filename):
                raise ArchiveInvalid(name, f"has a file that would lie elsewhere: {info.filename[:80]!r}")
        roots = [found[1] for info in infos if (found := ROOT.match(info.filename))]
        root = min(roots, key=len, default="")
        number = NUMBER.search(root)
        self.version = number[1] if number else ""
        starts = [info.header_offset for info in infos]
        self.entries: dict[str, Entry] = {}
        for info, after in zip(infos, [*starts[1:], self._zip.start_dir], strict=False):
            least = info.header_offset + HEADER + info.compress_size
            if info.header_offset < 0 or least > min(after, size):
                raise ArchiveInvalid(name, f"{info.filename}: lies over another file, or beyond the end")
            path = info.filename.removeprefix(root)
            if not info.filename:
                raise ArchiveInvalid(name, "has a file without a name")
            if info.filename.startswith(root) and not info.is_dir():
                if path in self.entries:
                    raise ArchiveInvalid(name, f"{path}: is there twice")
                end = min(after, least + len(info.filename.encode()) + len(info.extra) + SLACK)
                self.entries[path] = Entry(info, info.header_offset, end)
        folders = {str(parent) for path in self.entries for parent in PurePosixPath(path).parents}
        if both := sorted(folders & self.entries.keys()):
            raise ArchiveInvalid(name, f"{both[0]}: is a file, and a folder too")
        if not any(re.match(r"bin/aarch64-android[^/]*/snpe-net-run$", path) for path in self.entries):
            hosts = ", ".join(sorted({path.split("/")[1] for path in self.entries if re.match(r"bin/[^/]+/", path)}))
            what = f"is an SDK for other hosts: it has programs for {hosts}" if hosts else "is not an SDK's archive"
            raise NotAnSdk(name, what, "Take the archive for all hosts, which has bin/aarch64-android/snpe-net-run.")

    def close(self) -> None:
        self._zip.close()

    def _opened(self, source: Source) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(source)
        except BROKEN as error:
            source.seek(0)
            if source.read(len(START)) != START:
                raise ArchiveInvalid(self.name, "is not a zip archive") from error
            hint = "Download it again; a browser that stops early leaves such a file."
            raise ArchiveInvalid(
                self.name, "is cut off, or damaged: the directory at its end is not there", hint
            ) from error

    def unpack(self, paths: Collection[str], draft: Path, kept: Path, progress: Progress) -> dict[str, tuple[int, str]]:
        """Writes files into the folder `draft`; reuses files that are already there, or in `kept`, if they are
        identical. Returns path -> size and SHA-256.

        Raises:
            ArchiveInvalid: a file is damaged, or must not be written; HostStorageFailed: no room
        """
        wanted = {path: self.entries[path] for path in paths}
        for path, entry in wanted.items():
            self._check(path, entry.info)
        done: dict[str, tuple[int, str]] = {}
        for path, entry in wanted.items():
            for folder in (draft, kept):
                if path not in done and (digest := _same(folder / path, entry.info)):
                    done[path] = (entry.info.file_size, digest)
                    if folder != draft:
                        (draft / path).parent.mkdir(parents=True, exist_ok=True)
                        shutil.copy2(folder / path, draft / path)
        missing = sorted((wanted.keys() - done.keys()), key=lambda path: wanted[path].start)
        needed, free = sum(wanted[path].info.file_size for path in missing), shutil.disk_usage(draft).free
        if needed > free:
            hint = "Make room, or choose another folder with MBQA_SDK_CACHE."
            raise HostStorageFailed(draft, f"{needed / 1e6:.0f} MB needed, {free / 1e6:.0f} MB are free", hint)
        if isinstance(self._source, Remote):
            self._source.plan((wanted[path].start, wanted[path].end) for path in missing)
        through, total = 0, sum(wanted[path].info.compress_size for path in missing)

        def tell(packed_bytes: int) -> None:
            progress("fetching and unpacking", through + packed_bytes, total)

        for path in missing:
            info = wanted[path].info
            done[path] = (info.file_size, self._write(path, info, draft / path, tell))
            through += info.compress_size
            tell(0)
        return done

    def _check(self, path: str, info: zipfile.ZipInfo) -> None:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise ArchiveInvalid(self.name, f"{path}: is a link, or something else that is not a file")
        if info.compress_type not in KINDS or info.flag_bits & 1:
            raise ArchiveInvalid(self.name, f"{path}: is packed in a way that is not known here, or encrypted")
        if info.file_size > MOST_TIMES * info.compress_size + CHUNK or info.file_size > MOST_BYTES:
            raise ArchiveInvalid(self.name, f"{path}: declares {info.file_size / 1e6:.0f} MB")

    def _write(self, path: str, info: zipfile.ZipInfo, target: Path, tell: Callable[[int], None]) -> str:
        """Unpacks a file, up to the size in the directory; returns its SHA-256.

        tell: takes the number of compressed bytes that have been processed.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        digest, written = hashlib.sha256(), 0
        try:
            with target.open("wb") as file, self._zip.open(info) as packed:
                while piece := packed.read(CHUNK):
                    digest.update(piece)
                    file.write(piece)
                    written += len(piece)
                    tell(info.compress_size * written // max(1, info.file_size))
        except BROKEN as error:
            raise ArchiveInvalid(self.name, f"{path}: is damaged: {error}", "Run the command again.") from error
        if written != info.file_size:
            raise ArchiveInvalid(self.name, f"{path}: is damaged: {written} bytes, not {info.file_size}")
        if path.startswith("bin/") or (info.external_attr >> 16) & 0o111:
            target.chmod(0o755)
        return digest.hexdigest()


def check_pins(pins: Mapping[str, str], files: Mapping[str, tuple[int, str]], name: str) -> None:
    """Raises: ArchiveInvalid: a file differs from the known one."""
    for path, digest in pins.items():
        if path in files and files[path][1] != digest:
            what = f"{path}: is another file than the one known, whose SHA-256 begins {digest[:16]}"
            raise ArchiveInvalid(name, what, "Fetch it from another place, and ask there who changed it.")


def _same(path: Path, info: zipfile.ZipInfo) -> str:
    """Returns a file's SHA-256 if its size and CRC match the archive's; else an empty text."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size != info.file_size:
        return ""
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            crc = zlib.crc32(piece, crc)
    return sha256_of(path) if crc == info.CRC else ""
