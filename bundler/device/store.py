"""Manages the content store on the phone: pushes missing blobs, links them into a bundle's folder, cleans up.

Blobs in the store are complete: device_scripts/store.sh names a blob after it has checked its checksum on the phone.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from bundler import layout
from bundler.device.blobs import Blob, tar_of
from bundler.device.numbers import whole as size_of
from bundler.device.phone import Completed, Phone
from bundler.errors import PhoneFull, PhoneRefused, TransferDamaged
from bundler.resources import DEVICE_SCRIPTS
from bundler.types import Progress

LARGE_BYTES = 8 << 20  # from this size on, a blob is sent alone and can be resumed after a lost connection
SPARE_BYTES = 4 << 20  # outputs and logs need room too
SLOWEST_HASH = 20e6  # bytes a second of the slowest phone's sha256sum
PUSH_S = 24 * 3600.0  # a stalled transfer ends sooner
PUSHING, CHECKING = "pushing the bundle", "making checksums on the phone"  # words of the progress report
NO_SPACE = b"No space left"
INCOMING = layout.REMOTE_ROOT / "store/incoming"  # store.sh's
DAMAGED = (b"it arrived damaged", b"not all of it came")  # store.sh's words


class Store:
    """The store of one phone. Set `careful` after a lost connection: large blobs are then sent in the slower way, which
    can be resumed."""

    def __init__(self, phone: Phone, progress: Progress, *, careful: bool = False) -> None:
        self._phone, self._progress, self._careful = phone, progress, careful
        self._script = (DEVICE_SCRIPTS / "store.sh").read_text(encoding="utf-8")
        self.pushed_bytes = 0
        self.found_bytes = 0  # bytes that the phone already had; an increase between attempts is progress

    def push(self, blobs: Iterable[Blob], free_bytes: int | None, more: Iterable[Blob] = ()) -> None:
        """Pushes the blobs that the phone lacks; the phone verifies each by its checksum. Each blob of `more` is made
        when its turn comes, while the phone checks the blobs before it.

        Raises:
            PhoneFull: before any push if `free_bytes` is too small, or later when the disk is full;
            TransferDamaged, PhoneLost, PhoneTooSlow, PhoneRefused
        """
        blobs = [*blobs]
        whole, parts = self._check(blobs, more)
        lacking = list({blob.sha256: blob for blob in blobs if blob.sha256 not in whole}.values())
        if not lacking:
            return
        needed = sum(blob.size - parts.get(blob.sha256, 0) for blob in lacking) + SPARE_BYTES
        if free_bytes is not None and free_bytes < needed:
            raise PhoneFull(self._phone.serial, needed, free_bytes)
        count = self._counter(sum(blob.size for blob in lacking))
        small = [blob for blob in lacking if blob.size < LARGE_BYTES]
        if small:
            self._send(count(tar_of(small)), small, "receive")
        for blob in (blob for blob in lacking if blob.size >= LARGE_BYTES):
            start = parts.get(blob.sha256, 0)
            if self._careful or 0 < start <= blob.size:
                start = start if start <= blob.size else 0
                self._send(count(blob.pieces(start), start), [blob], "append", blob.sha256, str(blob.size))
            else:
                self._send_at_once(count(blob.pieces()), blob)

    def link(self, bundle_id: str, names: Mapping[str, Blob]) -> None:
        """Makes the bundle's folder, with a link for each name.

        Raises:
            PhoneLost, PhoneTooSlow, PhoneRefused
        """
        lines = "".join(f"{blob.mode} {blob.sha256} {name}\n" for name, blob in names.items())
        self._run("linking the bundle", "link", bundle_id, stdin=[lines.encode()], check=True)

    def unlink(self, bundle_id: str) -> None:
        """Removes the bundle's folder; keeps the blobs.

        Raises:
            PhoneLost, PhoneTooSlow, PhoneRefused
        """
        self._run("removing the links", "unlink", bundle_id, check=True)

    def clean(self, *, everything: bool = False) -> int:
        """Removes the blobs that no bundle links to, or everything that this tool put on the phone; returns the number
        of bytes that became free.

        Raises:
            PhoneLost, PhoneTooSlow, PhoneRefused
        """
        done = self._run("cleaning up", "clean-all" if everything else "clean", check=True)
        *_, last = ("", *done.stdout.decode(errors="replace").split())
        freed_kb = re.fullmatch(r"-?\d{1,15}", last, re.ASCII)  # others may have filled the disk meanwhile
        if freed_kb is None:
            raise PhoneRefused(self._phone.serial, "cleaning up", f"it did not say how much it freed, but {last!r}")
        return 1024 * max(0, int(last))

    def names(self) -> list[str]:
        """Lists the paths of everything that this tool has on the phone; nothing if its folder does not exist.

        Raises:
            PhoneLost, PhoneTooSlow, PhoneRefused
        """
        done = self._run("looking at what is there", "list", check=True)
        return done.stdout.decode(errors="surrogateescape").splitlines()

    def restore(self, names: Sequence[str]) -> None:
        """Removes what was added to the store since `names` was listed, except blobs that a bundle links to; and the
        folder, if it did not exist.

        Raises:
            PhoneLost, PhoneTooSlow, PhoneRefused
        """
        lines = "".join(f"{name}\n" for name in names).encode(errors="surrogateescape")
        self._run("cleaning up", "restore", stdin=[lines], check=True)

    def _check(self, blobs: list[Blob], more: Iterable[Blob]) -> tuple[set[str], dict[str, int]]:
        """Returns the complete blobs, and the received bytes of the others. Appends the blobs of `more` to `blobs`."""
        self._progress("checking what the phone has", 0, None)
        stall = self._phone.server.patience.command_s + sum(blob.size for blob in blobs) / SLOWEST_HASH

        def sums() -> Iterator[bytes]:
            yield "".join(f"{sha}\n" for sha in sorted({blob.sha256 for blob in blobs})).encode()
            for blob in more:
                blobs.append(blob)
                yield f"{blob.sha256}\n".encode()

        done = self._run("making checksums", "check", stdin=sums(), timeout_s=PUSH_S, stall_s=stall, check=True)
        words = [line.split() for line in done.stdout.decode(errors="replace").splitlines()]
        whole = {word[1] for word in words if len(word) == 2 and word[0] == "whole"}
        told = ((word[1], size_of(word[2])) for word in words if len(word) == 3 and word[0] == "part")
        parts = {sha256: size for sha256, size in told if size is not None}
        self.found_bytes = sum(b.size if b.sha256 in whole else parts.get(b.sha256, 0) for b in set(blobs))
        return whole, parts

    def _counter(self, total: int) -> Callable[..., Iterator[bytes]]:
        sent = 0

        def count(pieces: Iterator[bytes], skipped: int = 0) -> Iterator[bytes]:
            nonlocal sent
            sent += skipped
            for piece in pieces:
                self._progress(PUSHING, min(sent, total), total)
                sent += len(piece)
                self.pushed_bytes += len(piece)
                yield piece

        return count

    def _send(self, pieces: Iterator[bytes], blobs: Sequence[Blob], command: str, *arguments: str) -> None:
        doing = PUSHING
        stall = self._phone.server.patience.stall_s + sum(blob.size for blob in blobs) / SLOWEST_HASH
        done = self._run(
            doing, command, *arguments, stdin=pieces, timeout_s=PUSH_S, stall_s=stall, on_stdout=self._came
        )
        if done.exit_code == 0:
            return
        if NO_SPACE in done.stderr:
            raise PhoneFull(self._phone.serial, sum(blob.size for blob in blobs))
        if any(mark in done.stderr for mark in DAMAGED):
            raise TransferDamaged(self._phone.serial, done.message)
        raise PhoneRefused(self._phone.serial, doing, done.message)

    def _send_at_once(self, pieces: Iterator[bytes], blob: Blob) -> None:
        """Sends a blob as `adb push` does."""
        name = f"{blob.sha256}.{secrets.token_hex(4)}"
        try:
            self._phone.send(str(INCOMING / name), pieces, doing=PUSHING, stall_s=self._phone.server.patience.stall_s)
        except PhoneRefused as error:
            if NO_SPACE.decode() in str(error):
                raise PhoneFull(self._phone.serial, blob.size) from error
            raise
        self._came(b"")
        self._send(iter(()), [blob], "adopt", blob.sha256, str(blob.size), name)

    def _came(self, _: bytes) -> None:
        self._progress(CHECKING, 0, None)

    def _run(
        self, doing: str, command: str, *arguments: str, stdin: Iterable[bytes] = (), timeout_s: float | None = None,
        stall_s: float = float("inf"), on_stdout: Callable[[bytes], None] | None = None, check: bool = False,
    ) -> Completed:  # fmt: skip
        argv = ["sh", "-c", self._script, "store.sh", str(layout.REMOTE_ROOT), command, *arguments]
        return self._phone.run(
            argv, doing=doing, timeout_s=timeout_s, stall_s=stall_s, stdin=stdin, on_stdout=on_stdout, check=check
        )
