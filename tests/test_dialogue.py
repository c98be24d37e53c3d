"""Tests the requests of store and job to a phone, and their parsing of its answers, on a scripted phone."""

import io
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

from bundler import layout
from bundler.device import store as store_module
from bundler.device.blobs import Blob
from bundler.device.chunks import Chunk
from bundler.device.job import PhoneJob, Settings, Status
from bundler.device.limits import Patience
from bundler.device.phone import Completed
from bundler.device.store import SLOWEST_HASH, SPARE_BYTES, Store
from bundler.errors import OutputsInvalid, PhoneBusy, PhoneFull, PhoneRefused, TransferDamaged
from bundler.resources import DEVICE_SCRIPTS

PATIENCE = Patience(command_s=60.0, stall_s=30.0)
DAY = 24 * 3600.0


def said(stdout: str = "", stderr: str = "", exit_code: int = 0) -> Completed:
    return Completed(exit_code, stdout.encode(), stderr.encode())


class Answering:
    """Replaces a Phone: gives scripted answers in order, and records the requests."""

    serial = "p1"
    server = SimpleNamespace(patience=PATIENCE)

    def __init__(self, *answers: Completed, refuses: PhoneRefused | None = None) -> None:
        self.answers, self.refuses = list(answers), refuses
        self.asked: list[dict[str, Any]] = []

    def run(
        self, argv: list[str], *, doing: str, timeout_s: float | None = None, stall_s: float = float("inf"),
        stdin: Iterable[bytes] = (), on_stdout: Callable[[bytes], object] | None = None, check: bool = True,
    ) -> Completed:  # fmt: skip
        content = b"".join(stdin)
        self.asked.append({"argv": argv, "stdin": content, "doing": doing, "timeout_s": timeout_s, "stall_s": stall_s})
        answer = self.answers.pop(0)
        if on_stdout:
            on_stdout(answer.stdout)
        if check and answer.exit_code:
            raise PhoneRefused(self.serial, doing, answer.message)
        return answer

    def send(self, path: str, pieces: Iterable[bytes], *, doing: str, stall_s: float) -> None:
        self.asked.append({"path": path, "stdin": b"".join(pieces), "doing": doing, "stall_s": stall_s})
        if self.refuses:
            raise self.refuses

    @property
    def commands(self) -> list[list[str]]:
        """Returns the commands of the scripts; a sent file is represented by its path."""
        return [asked["argv"][5:] if "argv" in asked else [asked["path"]] for asked in self.asked]


class Told:
    """Records the progress."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, int | None]] = []

    def __call__(self, stage: str, done: int, total: int | None, /) -> None:
        self.lines.append((stage, done, total))


@pytest.fixture
def small(tmp_path: Path) -> Blob:
    (tmp_path / "small").write_bytes(b"s" * 1000)
    return Blob.of(tmp_path / "small")


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blob:
    monkeypatch.setattr(store_module, "LARGE_BYTES", 100_000)
    (tmp_path / "large").write_bytes(b"l" * 100_000)
    return Blob.of(tmp_path / "large")


def store_of(phone: Answering, told: Told | None = None, *, careful: bool = False) -> Store:
    return Store(phone, told or Told(), careful=careful)  # type: ignore[arg-type]


# the store


def test_the_script_is_run_by_a_shell_in_the_tools_folder(small: Blob) -> None:
    phone = Answering(said(f"whole {small.sha256}\n"))
    store = store_of(phone)
    assert (store.pushed_bytes, store.found_bytes) == (0, 0)
    store.push([small], None)
    script = (DEVICE_SCRIPTS / "store.sh").read_text()
    assert phone.asked[0]["argv"] == ["sh", "-c", script, "store.sh", "/data/local/tmp/mbqa", "check"]


def test_what_the_phone_has_whole_is_not_pushed(small: Blob, large: Blob) -> None:
    phone, told = Answering(said(f"whole {small.sha256}\nwhole {large.sha256}\nsome other words\n")), Told()
    store = store_of(phone, told)
    store.push([small, large, small], 0)
    assert phone.commands == [["check"]]
    assert phone.asked[0]["stdin"].decode().split() == sorted([small.sha256, large.sha256])
    assert phone.asked[0]["doing"] == "making checksums"
    assert (store.pushed_bytes, store.found_bytes) == (0, 101_000)
    assert told.lines == [("checking what the phone has", 0, None)]


def test_checksums_may_take_as_long_as_a_slow_phone_needs(tmp_path: Path) -> None:
    phone = Answering(said("whole " + "0" * 64))
    store_of(phone).push([Blob(tmp_path, "0" * 64, int(10 * SLOWEST_HASH))], None)
    assert phone.asked[0]["timeout_s"] == DAY
    assert phone.asked[0]["stall_s"] == pytest.approx(70)


def test_small_blobs_go_together_and_large_ones_alone(small: Blob, large: Blob, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"o" * 99_999)
    other = Blob.of(tmp_path / "other")
    phone, told = Answering(said(), said(), said()), Told()
    store = store_of(phone, told)
    store.push([small, large, other, small], None)
    _check, tar, sent, adopted = phone.asked
    assert [command[0] for command in phone.commands] == ["check", "receive", sent["path"], "adopt"]
    with tarfile.open(fileobj=io.BytesIO(tar["stdin"])) as archive:
        assert archive.getnames() == [small.sha256, other.sha256]
    assert (tar["doing"], tar["timeout_s"]) == ("pushing the bundle", DAY)
    assert tar["stall_s"] == pytest.approx(30 + 100_999 / SLOWEST_HASH)
    path = PurePosixPath(sent["path"])
    assert path.parent == layout.REMOTE_ROOT / "store/incoming"
    assert path.name.startswith(f"{large.sha256}.")
    assert len(path.name) == 64 + 1 + 8
    assert (sent["stdin"], sent["doing"], sent["stall_s"]) == (b"l" * 100_000, "pushing the bundle", 30.0)
    assert phone.commands[3] == ["adopt", large.sha256, "100000", path.name]
    assert adopted["stdin"] == b""
    assert adopted["stall_s"] == pytest.approx(30 + 100_000 / SLOWEST_HASH)
    assert store.pushed_bytes == len(tar["stdin"]) + 100_000
    assert store.found_bytes == 0
    total = 1000 + 99_999 + 100_000
    pushing = [(done, of) for stage, done, of in told.lines if stage == "pushing the bundle"]
    assert pushing[0] == (0, total)
    assert pushing == sorted(pushing)
    assert all(done <= total for done, _ in pushing)
    assert told.lines[-1] == ("making checksums on the phone", 0, None)


def test_progress_counts_what_was_there(large: Blob) -> None:
    phone, told = Answering(said(f"part {large.sha256} 60000"), said()), Told()
    store = store_of(phone, told)
    store.push([large], None)
    assert phone.commands[1] == ["append", large.sha256, "100000"]
    assert phone.asked[1]["stdin"] == b"l" * 40_000
    assert (store.pushed_bytes, store.found_bytes) == (40_000, 60_000)
    assert ("pushing the bundle", 60_000, 100_000) in told.lines


@pytest.mark.parametrize(
    ("careful", "part", "appended"),
    [
        (False, None, None),
        (False, 0, None),
        (False, 1, 99_999),
        (False, 100_000, 0),
        (False, 100_001, None),
        (True, None, 100_000),
        (True, 70_000, 30_000),
        (True, 100_001, 100_000),
    ],
)
def test_how_a_large_blob_goes(careful: bool, part: int | None, appended: int | None, large: Blob) -> None:
    """Uses the resumable way if part of it has arrived, or after a lost connection; else sends it at once."""
    phone = Answering(said("" if part is None else f"part {large.sha256} {part}\n"), said())
    store_of(phone, careful=careful).push([large], None)
    if appended is None:
        assert [command[0] for command in phone.commands][2] == "adopt"
    else:
        assert phone.commands[1] == ["append", large.sha256, "100000"]
        assert len(phone.asked[1]["stdin"]) == appended


@pytest.mark.parametrize(
    "answer", ["part {} ten", "part {}", "part {} 10 20", "parts {} 10", "whole {} 10", "{} whole"]
)
def test_words_that_the_script_does_not_say_mean_nothing(answer: str, large: Blob) -> None:
    phone = Answering(said(answer.format(large.sha256)), said())
    store = store_of(phone)
    store.push([large], None)
    assert (store.pushed_bytes, store.found_bytes) == (100_000, 0)


def test_room_is_needed_for_what_is_lacking_and_some_more(small: Blob, large: Blob) -> None:
    answers = said(f"part {large.sha256} 60000"), said(), said()
    needed = 1000 + 40_000 + SPARE_BYTES
    store_of(Answering(*answers)).push([small, large], needed)
    with pytest.raises(PhoneFull, match=r"^phone p1: .*: 4\.2 MB needed, 4\.2 MB are free$"):
        store_of(Answering(*answers)).push([small, large], needed - 1)


@pytest.mark.parametrize(
    ("stderr", "error", "words"),
    [
        ("tar: No space left on device", PhoneFull, r"no room for the bundle in /data/local/tmp: 0\.[01] MB needed"),
        ("x: it arrived damaged", TransferDamaged, "what arrived is not what was sent: x: it arrived damaged"),
        ("x: not all of it came", TransferDamaged, "what arrived is not what was sent: x: not all of it came"),
        ("tar: not found", PhoneRefused, "pushing the bundle failed: tar: not found"),
    ],
)
def test_a_push_that_fails_says_why(stderr: str, error: type[Exception], words: str, small: Blob, large: Blob) -> None:
    for blob in (small, large):
        with pytest.raises(error, match=f"^phone p1: {words}$"):
            store_of(Answering(said(), said(stderr=stderr, exit_code=1))).push([blob], None)


def test_a_file_that_the_phone_refuses_says_why(large: Blob) -> None:
    full = PhoneRefused("p1", "pushing the bundle", "write failed: No space left on device")
    with pytest.raises(PhoneFull, match=r"^phone p1: no room for the bundle in /data/local/tmp: 0\.1 MB needed$"):
        store_of(Answering(said(), refuses=full)).push([large], None)
    other = PhoneRefused("p1", "pushing the bundle", "Permission denied")
    with pytest.raises(PhoneRefused, match=r"^phone p1: pushing the bundle failed: Permission denied$"):
        store_of(Answering(said(), refuses=other)).push([large], None)


def test_a_check_that_fails_is_said(small: Blob) -> None:
    with pytest.raises(PhoneRefused, match=r"^phone p1: making checksums failed: not found$"):
        store_of(Answering(said(stderr="not found", exit_code=127))).push([small], None)


def test_links_are_told_line_by_line(small: Blob, large: Blob) -> None:
    phone = Answering(said())
    program = Blob(large.path, large.sha256, large.size, "755")
    store_of(phone).link("0123", {"a/b c": small, "bin/program": program})
    assert phone.commands == [["link", "0123"]]
    assert phone.asked[0]["stdin"].decode() == f"644 {small.sha256} a/b c\n755 {large.sha256} bin/program\n"
    with pytest.raises(PhoneRefused, match=r"^phone p1: linking the bundle failed: no such file$"):
        store_of(Answering(said(stderr="no such file", exit_code=1))).link("0123", {})


@pytest.mark.parametrize(("answer", "freed"), [("7\n", 7168), ("removed x\n12\n", 12_288), ("-3\n", 0), ("0", 0)])
def test_cleaning_says_what_became_free(answer: str, freed: int) -> None:
    phone = Answering(said(answer), said(answer))
    assert store_of(phone).clean() == freed
    assert store_of(phone).clean(everything=True) == freed
    assert phone.commands == [["clean"], ["clean-all"]]
    assert phone.asked[0]["doing"] == "cleaning up"
    with pytest.raises(PhoneRefused, match=r"^phone p1: cleaning up failed: busy$"):
        store_of(Answering(said(stderr="busy", exit_code=1))).clean()


@pytest.mark.parametrize("answer", ["", "ten", "\u0663", "7.5", "9" * 16])
def test_cleaning_that_does_not_say_what_became_free(answer: str) -> None:
    words = f"cleaning up failed: it did not say how much it freed, but '{answer}'"
    with pytest.raises(PhoneRefused, match=f"^phone p1: {words}$"):
        store_of(Answering(said(answer))).clean()
    with pytest.raises(PhoneRefused, match="how much it freed"):
        store_of(Answering(Completed(0, b"\xff", b""))).clean()


# the job

CHUNK = Chunk(2, 4)
SCRIPT = "/data/local/tmp/mbqa/0123abcd/job.sh"


def job_of(phone: Answering) -> PhoneJob:
    return PhoneJob(phone, "0123abcd", "dsp")  # type: ignore[arg-type]


def test_a_job_is_started_with_its_settings_and_queue() -> None:
    phone = Answering(said())
    settings = Settings("77", "dsp", "balanced", "unsignedPD:ON", "cpu", 3, "qnn")
    job_of(phone).start(settings, [Chunk(0, 2), CHUNK])
    assert phone.asked[0]["argv"] == [
        "sh", SCRIPT, "start", "dsp", "77", "balanced", "unsignedPD:ON", "cpu", "3", "qnn",
    ]  # fmt: skip
    assert phone.asked[0]["stdin"] == b"0000000-0000002\n0000002-0000004\n"
    assert phone.asked[0]["doing"] == "starting the run"


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (said("busy=cpu\n", exit_code=75), PhoneBusy, "another run of this bundle is going on there, on the cpu"),
        (Completed(75, b"busy=\xff", b""), PhoneBusy, "another run of this bundle is going on there, on the .*"),
        (said(stderr="no room", exit_code=1), PhoneRefused, "starting the run failed: no room"),
    ],
)
def test_a_job_that_does_not_start_says_why(answer: Completed, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"^phone p1: {words}$"):
        job_of(Answering(answer)).start(Settings("77", "dsp"), [CHUNK])


def test_what_a_job_is_asked() -> None:
    phone = Answering(said("state=stopped\n"), said(), said(), said("the log"), Completed(0, b"state=\xff", b""))
    job = job_of(phone)
    assert job.status() == Status("stopped", None, False, None, 0, (), (), "", False)
    job.forget(CHUNK)
    job.stop()
    assert job.log() == b"the log"
    assert [asked["argv"][2:] for asked in phone.asked] == [
        ["status", "dsp"],
        ["forget", "dsp", "0000002-0000004"],
        ["stop", "dsp"],
        ["log", "dsp"],
    ]
    assert [asked["doing"] for asked in phone.asked] == [
        "asking how the run is going",
        "removing what was pulled",
        "stopping the run",
        "reading the log",
    ]
    assert job.status().state == "\ufffd"


def test_a_chunk_is_given_as_it_was_announced() -> None:
    archive = io.BytesIO()
    phone = Answering(said(f"#bytes=3\n#runtime=cpu\n{'a' * 64}  ./Result_0/x.raw\n\nabc"))
    announced = job_of(phone).give(CHUNK, archive, 3)
    assert (announced.size_bytes, announced.runtime, archive.getvalue()) == (3, "cpu", b"abc")
    asked = phone.asked[0]
    assert asked["argv"] == ["sh", SCRIPT, "give", "dsp", "0000002-0000004"]
    assert (asked["doing"], asked["timeout_s"], asked["stall_s"]) == ("pulling the outputs", DAY, 30.0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (said(), "its outputs are not there: exit code 0"),
        (said("#bytes=3\n\nabc", "gone", exit_code=1), "its outputs are not there: gone"),
        (said("#bytes=4\n\nabcd"), "announces 4 bytes, too many for its outputs"),
        (said("#bytes=3\n\nabcd"), "more bytes came than were announced"),
    ],
)
def test_a_chunk_that_is_not_given_is_said(answer: Completed, words: str) -> None:
    with pytest.raises(OutputsInvalid, match=f"^phone p1: chunk 0000002-0000004: {words}$"):
        job_of(Answering(answer)).give(CHUNK, io.BytesIO(), 3)
