"""A bundle's way onto the phone: one tar stream, checksums made there, and a name only for what is whole."""

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from bundler import layout
from bundler.bundle import Bundle, FileEntry
from bundler.device.phone import Phone
from bundler.errors import PhoneFull, PhoneRefused, TransferDamaged
from bundler.types import Progress

CHECK_S = 300.0
PUSH_S = 3600.0
PIECE = 1 << 20
SPARE_BYTES = 4 << 20  # outputs and logs need room too
EXECUTABLE = ("bin/",)

RECEIVE = 'rm -rf "$1" && mkdir -p "$1" && cd "$1" && exec tar -x -f -'
CHECK = 'cd "$1" 2>/dev/null && exec sha256sum -c -'  # toybox reads stdin only where it is named
NAME = 'rm -rf "$2" && mv "$1" "$2"'


def push_bundle(
    phone: Phone, bundle: Bundle, files: Mapping[str, FileEntry], *, free_bytes: int | None, progress: Progress
) -> PurePosixPath:
    """Brings these of the bundle's device files to the phone, unless they are there already; returns their folder.

    Raises:
        PhoneFull, TransferDamaged, PhoneLost, PhoneTooSlow, PhoneRefused
    """
    remote = layout.remote_bundle(bundle.id)
    progress("checking what the phone has", 0, None)
    if not damaged_files(phone, remote, files):
        return remote
    draft = remote.with_name(f"{remote.name}.draft")
    needed = sum(entry.size for entry in files.values())
    if free_bytes is not None and free_bytes < needed + SPARE_BYTES:
        raise PhoneFull(phone.serial, needed + SPARE_BYTES, free_bytes)
    try:
        _send(phone, bundle, files, draft, progress)
        progress("checking what arrived", 0, None)
        damaged = damaged_files(phone, draft, files)
        if damaged:
            raise TransferDamaged(phone.serial, damaged)
        phone.run(["sh", "-c", NAME, "sh", str(draft), str(remote)], doing="naming the bundle", timeout_s=CHECK_S)
    except (PhoneFull, TransferDamaged):
        phone.run(["rm", "-rf", str(draft)], doing="removing a partial bundle", timeout_s=CHECK_S, check=False)
        raise
    return remote


def damaged_files(phone: Phone, remote: PurePosixPath, files: Mapping[str, FileEntry]) -> list[str]:
    """The files that are missing in `remote`, or whose SHA-256, made on the phone, is not the bundle's."""
    expected = "".join(f"{entry.sha256}  {name}\n" for name, entry in files.items())
    command = ["sh", "-c", CHECK, "sh", str(remote)]
    done = phone.run(command, doing="making checksums", timeout_s=CHECK_S, stdin=[expected.encode()], check=False)
    whole = {
        line.removesuffix(": OK") for line in done.stdout.decode(errors="replace").splitlines() if line.endswith(": OK")
    }
    return [name for name in files if name not in whole]


def _send(
    phone: Phone, bundle: Bundle, files: Mapping[str, FileEntry], draft: PurePosixPath, progress: Progress
) -> None:
    total = sum(entry.size for entry in files.values())

    def counted() -> Iterator[bytes]:
        sent = 0
        for piece in tar_stream(bundle.path / layout.DEVICE, files):
            progress("pushing the bundle", min(sent, total), total)
            sent += len(piece)
            yield piece

    command = ["sh", "-c", RECEIVE, "sh", str(draft)]
    done = phone.run(command, doing="pushing the bundle", timeout_s=PUSH_S, stdin=counted(), check=False)
    if done.exit_code != 0:
        if b"No space left" in done.stderr:
            raise PhoneFull(phone.serial, total)
        raise PhoneRefused(phone.serial, "pushing the bundle", done.message)


def tar_stream(root: Path, files: Mapping[str, FileEntry]) -> Iterator[bytes]:
    """The files as a tar archive (ustar) in pieces; folders come before what is in them."""
    folders: set[str] = set()
    for name, entry in files.items():
        for folder in reversed(PurePosixPath(name).parents[:-1]):
            if str(folder) not in folders:
                folders.add(str(folder))
                info = tarfile.TarInfo(str(folder))
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                yield info.tobuf(tarfile.USTAR_FORMAT)
        info = tarfile.TarInfo(name)
        info.size, info.mode = entry.size, 0o755 if name.startswith(EXECUTABLE) else 0o644
        yield info.tobuf(tarfile.USTAR_FORMAT)
        with (root / name).open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
        yield bytes(-entry.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)
