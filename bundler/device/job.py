"""Controls the job on the phone, device_scripts/job.sh: detached from adb, it computes chunks of the input list."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Literal

from bundler import layout
from bundler.device.blobs import Blob
from bundler.device.chunks import Chunk
from bundler.device.numbers import whole
from bundler.engines import ENGINES, Engine, EngineName
from bundler.errors import OutputsInvalid, PhoneBusy, PhoneRefused
from bundler.types import Runtime

if TYPE_CHECKING:
    from bundler.device.phone import Completed, Phone  # a build reads runs, and has no phone

PULL_S = 24 * 3600.0  # a stalled transfer ends sooner
FULL_KB = 64  # a disk with no more than this is full
BUSY = 75  # job.sh's exit code if another job of the bundle is running
HEADER_LIMIT = 64 << 20  # bytes of names and checksums of a chunk, at most
SEEN = re.compile(r"[A-Za-z0-9_:=*/.-]{0,200}")
SETTING = re.compile(r"[A-Za-z0-9_:;.,=+-]*")  # job.sh accepts no other characters
TIME = re.compile(r"^#time=(\d{1,12})\.(\d{1,9})0? (?:\./)?(.+)$", re.ASCII)
# nanoseconds: toybox's find leaves their leading zeros out, GNU's find adds a tenth digit, 0


@dataclass(frozen=True)
class Settings:
    """The settings of a run; runs with different settings are separate.

    Raises:
        ValueError: job.sh does not accept one of them
    """

    id: str
    runtime: Runtime
    perf_profile: str = "burst"
    platform_options: str = ""
    fallback: Runtime | Literal[""] = ""
    chunk: int = 500
    engine: EngineName = "snpe"  # the engine of records of older releases

    def __post_init__(self) -> None:
        for setting in (self.id, self.runtime, self.perf_profile, self.platform_options, self.fallback, self.engine):
            if not SETTING.fullmatch(setting):
                raise ValueError(f"{setting!r} is not a setting of a run")

    @property
    def by(self) -> Engine:
        """Returns the engine."""
        return ENGINES[self.engine]


@dataclass(frozen=True)
class Status:
    """The status of a job: `state` is none, starting, running, finished, failed or stopped, as job.sh last wrote it. A
    job that is running but not `alive` was killed, or its phone was restarted.

    begun: inferences of the current chunk whose outputs are written, the last one perhaps in part; done: chunks whose
    outputs are ready on the phone; exit: the runner's exit code, or a word of job.sh; disk_full: the disk was full at
    the failure; seen: job.sh's key for this status, which changes with state, current and done.
    """

    state: str
    settings: Settings | None
    alive: bool
    current: Chunk | None
    begun: int
    queued: tuple[Chunk, ...]
    done: tuple[Chunk, ...]
    exit: str
    disk_full: bool
    seen: str = ""

    @classmethod
    def read(cls, text: str, runtime: Runtime) -> "Status":
        pairs = [(key, value.strip("'")) for key, _, value in (line.partition("=") for line in text.splitlines())]
        values = dict(pairs)
        seen = values.get("seen", "")
        chunks = {key: [_chunk(value) for k, value in pairs if k == key] for key in ("chunk", "queued", "done")}
        return cls(
            state=values.get("state", "none"),
            settings=_settings(values, runtime),
            alive=values.get("alive") == "yes",
            current=next(iter(chunks["chunk"]), None),
            begun=whole(values.get("begun", "")) or 0,
            queued=tuple(chunk for chunk in chunks["queued"] if chunk),
            done=tuple(sorted(chunk for chunk in chunks["done"] if chunk)),
            exit=values.get("exit", ""),
            disk_full=(free_kb := whole(values.get("free_kb", ""))) is not None and free_kb < FULL_KB,
            seen=seen if SEEN.fullmatch(seen) else "",
        )


def _chunk(name: str) -> Chunk | None:
    try:
        return Chunk.named(name)
    except ValueError:
        return None


def _settings(values: Mapping[str, str], runtime: Runtime) -> Settings | None:
    chunk = whole(values.get("chunk_size", ""))
    if not values.get("run") or not chunk:
        return None
    try:
        return Settings(
            id=values["run"],
            runtime=runtime,
            perf_profile=values.get("profile", ""),
            platform_options=values.get("platform_options", ""),
            fallback="cpu" if values.get("fallback") == "cpu" else "",
            chunk=chunk,
            engine=next((name for name in ENGINES if name == values.get("engine")), "snpe"),
        )
    except ValueError:  # not written by job.sh
        return None


@dataclass(frozen=True)
class Announced:
    """What the phone announces before it sends a finished chunk: the archive's size, SHA-256 by path, the runtime used,
    its clock (nanoseconds, or else seconds) before and after, and by path the nanosecond at which an output was
    written; `peak_kb` is the largest observed memory use of the run, in KiB."""

    size_bytes: int
    sums: Mapping[str, str]
    runtime: str
    begin: str
    end: str
    times: Mapping[str, int] = field(default_factory=dict)
    peak_kb: int | None = None


class PhoneJob:
    """The job of one bundle and runtime on one phone."""

    def __init__(self, phone: "Phone", bundle_id: str, runtime: Runtime) -> None:
        self._phone, self._runtime = phone, runtime
        self._script = str(layout.remote_bundle(bundle_id) / layout.JOB)

    def start(self, settings: Settings, chunks: Iterable[Chunk]) -> str:
        """Makes `chunks` the queue. If the job is not running, starts it and returns `Status.seen`, else "".

        Raises:
            PhoneBusy: another job of this bundle is running; PhoneLost, PhoneTooSlow, PhoneRefused
        """
        queue = "".join(f"{chunk.name}\n" for chunk in chunks).encode()
        doing = "starting the run"
        done = self._run("start", *_words(settings), doing=doing, stdin=[queue])
        if done.exit_code == BUSY:
            raise PhoneBusy(self._phone.serial, done.stdout.decode(errors="replace").strip().removeprefix("busy="))
        if done.exit_code != 0:
            raise PhoneRefused(self._phone.serial, doing, done.message)
        return Status.read(done.stdout.decode(errors="replace"), self._runtime).seen

    def status(self, seen: str = "") -> Status:
        """Returns the status, as soon as it differs from `seen`, or after a second.

        Raises:
            PhoneLost, PhoneTooSlow
        """
        done = self._run("status", *([seen] if seen else []), doing="asking how the run is going")
        return Status.read(done.stdout.decode(errors="replace"), self._runtime)

    def give(self, chunk: Chunk, archive: BinaryIO, most_bytes: int) -> Announced:
        """Writes a finished chunk's archive into the file, up to the announced size; returns the announcement.

        Raises:
            OutputsInvalid: it does not exist, announces more than `most_bytes`, or is not as announced;
            PhoneLost, PhoneTooSlow
        """
        stall = self._phone.server.patience.stall_s
        doing = "pulling the outputs"
        return self._given(chunk, archive, most_bytes, "give", chunk.name, doing=doing, timeout_s=PULL_S, stall_s=stall)

    def answer(self, settings: Settings, chunk: Chunk, inputs: Blob, archive: BinaryIO, most_bytes: int) -> Announced:
        """Sends a chunk's archive of inputs, computes it and returns the outputs, all by one command; for chunks that
        take no longer than a command may.

        Raises:
            OutputsInvalid: as `give`, also if the run failed or the inputs arrived damaged: `status` and `log` tell
            more; PhoneLost, PhoneTooSlow: the job continues if the inputs had arrived
        """
        arguments = [*_words(settings), chunk.name, inputs.path.name, inputs.sha256]
        doing, stdin = "running the chunk", inputs.pieces()
        return self._given(chunk, archive, most_bytes, "answer", *arguments, doing=doing, stdin=stdin)

    def _given(
        self,
        chunk: Chunk,
        archive: BinaryIO,
        most_bytes: int,
        command: str,
        *arguments: str,
        doing: str,
        **more: object,
    ) -> Announced:
        where = f"phone {self._phone.serial}: chunk {chunk.name}"
        reader = _ChunkReader(where, archive, most_bytes)
        done = self._run(command, *arguments, doing=doing, on_stdout=reader.take, **more)
        if done.exit_code != 0 or reader.announced is None:
            raise OutputsInvalid(f"{where}: its outputs are not there: {done.message}")
        return reader.announced

    def forget(self, chunk: Chunk) -> None:
        """Deletes a finished chunk's outputs on the phone."""
        self._run("forget", chunk.name, doing="removing what was pulled")

    def stop(self) -> None:
        """Ends the job; the next start begins the current chunk again."""
        self._run("stop", doing="stopping the run")

    def log(self) -> bytes:
        """Returns the output of the runs: if it is more than 4 MB, the first megabyte and the last."""
        return self._run("log", doing="reading the log").stdout

    def _run(self, command: str, *arguments: str, doing: str, **more: object) -> "Completed":
        argv = ["sh", self._script, command, self._runtime, *arguments]
        return self._phone.run(argv, doing=doing, check=False, **more)  # type: ignore[arg-type]


def _words(settings: Settings) -> list[str]:
    """Returns the settings as arguments for job.sh."""
    options = [settings.id, settings.perf_profile, settings.platform_options, settings.fallback]
    return [*options, str(settings.chunk), settings.engine]


class _ChunkReader:
    """Parses the output of job.sh's `give` as it arrives: the announcement, an empty line, the archive."""

    def __init__(self, where: str, archive: BinaryIO, most_bytes: int) -> None:
        self._where, self._archive, self._most_bytes = where, archive, most_bytes
        self._header = bytearray()
        self._left = 0
        self.announced: Announced | None = None

    def take(self, data: bytes) -> None:
        if self.announced is None:
            self._header += data
            end = self._header.find(b"\n\n")
            if end < 0:
                if len(self._header) > HEADER_LIMIT:
                    raise OutputsInvalid(f"{self._where}: announces too many files")
                return
            self.announced = self._read(self._header[:end].decode(errors="replace"))
            self._left, data = self.announced.size_bytes, bytes(self._header[end + 2 :])
        if len(data) > self._left:
            raise OutputsInvalid(f"{self._where}: more bytes came than were announced")
        self._left -= len(data)
        self._archive.write(data)

    def _read(self, header: str) -> Announced:
        lines = header.splitlines()
        facts = dict(line[1:].partition("=")[::2] for line in lines if line.startswith("#"))
        size = whole(facts.get("bytes", ""))
        if size is None or size > self._most_bytes:
            told = "no number of" if size is None else size
            raise OutputsInvalid(f"{self._where}: announces {told} bytes, too many for its outputs")
        sums = {path.removeprefix("./"): sha for sha, _, path in (line.partition("  ") for line in lines) if path}
        times = {path: int(s) * 10**9 + int(ns) for line in lines for s, ns, path in TIME.findall(line)}
        runtime, begin, end = (facts.get(key, "") for key in ("runtime", "begin", "end"))
        return Announced(size, sums, runtime, begin, end, times, whole(facts.get("peak_kb", "")))
