"""Fuzzes the answers of a phone: about itself, the job and its store, and the outputs that it sends."""

import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from bundler.bundle import Window
from bundler.device import tarball
from bundler.device.blobs import Blob
from bundler.device.chunks import Chunk, chunks_of
from bundler.device.explain import explain
from bundler.device.job import Announced, PhoneJob, Settings
from bundler.device.limits import Limit
from bundler.device.outputs import Unsound, most_bytes, read_outputs
from bundler.device.phone import AdbServer, Completed, Phone
from bundler.device.probe import probe as ask_phone
from bundler.device.store import Store
from bundler.device.timings import chunk_times, keep_diagnostics, keep_times
from bundler.errors import OutputsInvalid, PhoneRefused
from bundler.evaluation.latency import read_diagview
from bundler.scheduler.queue import Board, ends_of
from bundler.types import OUTPUTS, TensorSpec
from tests.deploying import quiet
from tests.fuzz import work

SPECS = tuple(TensorSpec(name, "float32", (1, 4)) for name in OUTPUTS)
CHUNK = Chunk(0, 2)
BLOB = hashlib.sha256(b"blob").hexdigest()


class Scripted(Phone):
    """A phone that answers each command with the same bytes and exit code."""

    def __init__(self, said: bytes, exit_code: int = 0, piece: int = 1 << 20) -> None:
        super().__init__(AdbServer("127.0.0.1", 1), "PHONE", Limit())
        self._said, self._exit_code, self._piece = said, exit_code, piece

    def run(
        self, argv: Sequence[str], *, doing: str, timeout_s: float | None = None, stall_s: float = float("inf"),
        stdin: Iterable[bytes] = (), on_stdout: Callable[[bytes], object] | None = None, check: bool = True,
    ) -> Completed:  # fmt: skip
        for _ in stdin:
            pass
        if on_stdout is not None:
            for start in range(0, len(self._said), self._piece):
                on_stdout(self._said[start : start + self._piece])
        done = Completed(self._exit_code, b"" if on_stdout else self._said, self._said)
        if check and self._exit_code:
            raise PhoneRefused(self.serial, doing, done.message)
        return done

    def send(self, path: str, pieces: Iterable[bytes], *, doing: str, stall_s: float) -> None:
        for _ in pieces:
            pass


def probe(data: bytes) -> None:
    """Reads the output of probe.sh."""
    facts = ask_phone(Scripted(data))
    assert facts.soc is None or facts.soc.name
    assert facts.is_qualcomm in (True, False)


def job(data: bytes) -> None:
    """Reads job.sh's status of the job, and reports it to a board."""
    phone = PhoneJob(Scripted(data), "bundle", "dsp")
    status = phone.status()
    windows = [Window(f"q{number}#0", f"q{number}", number, {}, {}) for number in range(5)]
    board = Board(chunks_of(5, 2), (), ends_of(windows))
    board.take("PHONE", None)
    for chunk in status.done:
        if board.wants(chunk):
            board.finish(chunk)
    assert 0 <= board.report("PHONE", status.current, status.begun) <= 5
    assert set(status.queued) >= set()
    phone.start(status.settings or Settings("id", "dsp"), status.queued)


def announced(data: bytes) -> None:
    """Reads a finished chunk: the announcement and the archive."""
    archive = io.BytesIO()
    most = most_bytes(CHUNK, SPECS)
    for piece in (1 << 20, 7):
        archive = io.BytesIO()
        told = PhoneJob(Scripted(data, piece=piece), "bundle", "dsp").give(CHUNK, archive, most)
        assert archive.tell() <= told.size_bytes <= most
        times = chunk_times(told, CHUNK, "PHONE")
        assert times.seconds >= 0
        keep_times(times, work.folder("times"), CHUNK)


def outputs(data: bytes) -> None:
    """Reads an archive of outputs with correct checksums: in its headers, and in the phone's announcement."""
    archive = io.BytesIO(sealed(data))
    told = Announced(len(data), {**_sums(archive), "SNPEDiag_0.log": ""}, "dsp", "", "")
    archive.seek(0)
    try:
        logits, log = read_outputs(archive, told, CHUNK, SPECS, "PHONE", "SNPEDiag_0.log")
        assert all(values.shape == (2, 1, 4) for values in logits.values())
        keep_diagnostics(log, work.folder("diagnostics"), CHUNK)
    except (Unsound, OutputsInvalid):
        pass


def sealed(data: bytes) -> bytes:
    """Corrects the checksum of each block that looks like a header."""
    blocks = [data[start : start + tarball.BLOCK] for start in range(0, len(data), tarball.BLOCK)]
    for number, block in enumerate(blocks):
        if len(block) == tarball.BLOCK and block[257:262] == b"ustar":
            plain = block[:148] + b" " * 8 + block[156:]
            blocks[number] = block[:148] + b"%06o\0 " % sum(plain) + block[156:]
    return b"".join(blocks)


def _sums(archive: io.BytesIO) -> dict[str, str]:
    sums = {}
    try:
        reader = tarball.Reader(archive, most_bytes(CHUNK, SPECS))
        for entry in reader:
            if entry.is_file:
                sums[entry.name.removeprefix("./")] = hashlib.sha256(reader.read(entry)).hexdigest()
    except (tarball.BrokenTar, tarball.TooLarge, OSError):
        pass
    return sums


def store(data: bytes) -> None:
    """Reads the output of store.sh, after its exit code."""
    blob = Blob(work.folder("blobs") / "blob", BLOB, 4)
    blob.path.write_bytes(b"blob")
    for large in (blob, replace(blob, size=9 << 20)):
        kept = Store(Scripted(data[1:]), quiet)
        kept.push([large], None)
        assert kept.found_bytes >= 0
    kept.clean()
    Store(Scripted(data[1:], data[0] if data else 1), quiet).push([blob], None)


def error_lines(data: bytes) -> None:
    """Reads the log of a failed run."""
    found = explain(data.decode(errors="replace").strip().splitlines(), 1)
    assert found is None or (found.cause and found.remedy)


def diagview(data: bytes) -> None:
    """Reads the output of snpe-diagview."""
    assert all(value >= 0 for value in read_diagview(data.decode(errors="replace")).values())
