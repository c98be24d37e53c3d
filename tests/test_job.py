"""Tests the job on the phone by its script, on the virtual phone and on one of genuine parts."""

import io
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bundler import layout
from bundler.bundle import Bundle
from bundler.device.chunks import Archiver, Chunk, chunks_of
from bundler.device.job import PhoneJob, Settings, Status
from bundler.device.outputs import most_bytes, read_outputs
from bundler.device.phone import Phone
from bundler.device.probe import probe
from bundler.device.store import Store
from bundler.device.timings import seconds_between
from bundler.errors import OutputsInvalid, PhoneBusy
from bundler.scheduler.supply import base_files
from tests.deploying import quiet, sh
from tests.phones import virtual_phone

LIMIT_S = 60.0
SETTINGS = Settings("0123abcd", "cpu", chunk=2)
CHUNKS = chunks_of(4, 2)


@contextmanager
def pushed(phone: Phone, bundle: Bundle, tmp_path: Path) -> Iterator[PhoneJob]:
    """Pushes a bundle with all its chunks, and provides its job."""
    archiver = Archiver(bundle, tmp_path / "spool")
    archives = dict(archiver.archive(chunk, compressed=True) for chunk in CHUNKS)
    names = archives | base_files(bundle, probe(phone), SETTINGS, tmp_path)
    store = Store(phone, quiet)
    store.push(list(names.values()), None)
    store.link(bundle.id, names)
    job = PhoneJob(phone, bundle.id, "cpu")
    yield job
    job.stop()
    until(job, lambda status: not status.alive)
    sh(phone, f"rm -rf {layout.REMOTE_ROOT}")


@pytest.fixture
def on_phone(phone: Phone, bundle: Bundle, tmp_path: Path) -> Iterator[PhoneJob]:
    with pushed(phone, bundle, tmp_path) as job:
        yield job


def until(job: PhoneJob, fits: Callable[[Status], bool]) -> Status:
    deadline = time.monotonic() + LIMIT_S
    while not fits(status := job.status()):
        assert time.monotonic() < deadline, status
        time.sleep(0.05)
    return status


def replace_net_run(phone: Phone, bundle: Bundle, script: str) -> None:
    """Replaces snpe-net-run for this bundle."""
    folder = layout.remote_bundle(bundle.id)
    program = f"{folder}/bin/snpe-net-run"
    text = f"{{ echo \"#!$(command -v sh)\"; cat <<'E'\n{script}\nE\n}} >{program}"
    sh(phone, f"mkdir -p {folder}/bin && {text}\nchmod 755 {program}")


@pytest.mark.slow
def test_what_is_seen_changes_with_what_is_done(on_phone: PhoneJob) -> None:
    """With a known status it waits until it changes, or for a second."""
    seen = on_phone.start(SETTINGS, CHUNKS)
    assert seen
    deadline = time.monotonic() + LIMIT_S
    while "finished" not in seen:
        assert time.monotonic() < deadline
        seen = on_phone.status(seen).seen
    last = on_phone.status(seen)
    assert (last.seen, last.state, set(last.done)) == (seen, "finished", set(CHUNKS))
    on_phone.forget(CHUNKS[0])
    assert on_phone.status(seen).seen != seen


def test_a_job_does_its_chunks_and_gives_them(phone: Phone, bundle: Bundle, on_phone: PhoneJob) -> None:
    assert on_phone.status().state == "none"
    on_phone.start(SETTINGS, CHUNKS)
    status = until(on_phone, lambda status: status.state == "finished" and not status.alive)
    assert (status.settings, status.done, status.queued) == (SETTINGS, CHUNKS, ())
    for chunk in CHUNKS:
        archive = io.BytesIO()
        announced = on_phone.give(chunk, archive, most_bytes(chunk, bundle.manifest.outputs))
        assert (announced.runtime, archive.tell()) == ("cpu", announced.size_bytes)
        assert 0 < seconds_between(announced.begin, announced.end) < LIMIT_S
        archive.seek(0)
        logits, _ = read_outputs(archive, announced, chunk, bundle.manifest.outputs, "phone")
        assert {name: values.shape for name, values in logits.items()} == {
            "start_logits": (2, 1, 384),
            "end_logits": (2, 1, 384),
        }
        on_phone.forget(chunk)
    assert on_phone.status().done == ()
    assert on_phone.log().count(b"Processing DNN input") == 4
    with pytest.raises(OutputsInvalid, match="its outputs are not there"):
        on_phone.give(CHUNKS[0], io.BytesIO(), 100)


def test_one_job_a_bundle_at_a_time(phone: Phone, bundle: Bundle, on_phone: PhoneJob) -> None:
    replace_net_run(phone, bundle, "mkdir -p output/cpu/Result_0; sleep 7391")
    on_phone.start(SETTINGS, CHUNKS[:1])
    until(on_phone, lambda status: status.begun == 1)
    with pytest.raises(PhoneBusy, match="another run of this bundle is going on there, on the cpu"):
        on_phone.start(replace(SETTINGS, id="fedc"), CHUNKS)
    with pytest.raises(PhoneBusy):
        PhoneJob(phone, bundle.id, "gpu").start(replace(SETTINGS, runtime="gpu"), CHUNKS)
    assert PhoneJob(phone, bundle.id, "gpu").status().alive is False
    on_phone.start(SETTINGS, CHUNKS)  # the same run: its queue
    assert on_phone.status().queued == CHUNKS
    on_phone.stop()
    status = until(on_phone, lambda status: not status.alive)
    assert (status.state, status.queued) == ("stopped", CHUNKS)
    assert "sleep 7391" not in sh(phone, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")
    on_phone.start(replace(SETTINGS, id="fedc"), CHUNKS[:1])  # nothing is left of the other run
    assert on_phone.status().queued == CHUNKS[:1]


def check_stopping(job: PhoneJob) -> None:
    """Starts a chunk whose program does not end by itself, and stops it."""
    job.start(SETTINGS, CHUNKS[:1])
    until(job, lambda status: status.begun == 1)
    job.stop()
    status = job.status()
    assert (status.state, status.alive, status.queued) == ("stopped", False, CHUNKS[:1])


@pytest.mark.parametrize("action", ["trap - TERM", pytest.param("", marks=pytest.mark.slow)], ids=["first", "every"])
def test_a_program_that_ignores_the_signal_is_stopped(
    phone: Phone, bundle: Bundle, on_phone: PhoneJob, action: str
) -> None:
    """A process that is being forked may lose the first one; job.sh sends more, and kills after 3 s."""
    endless = f"trap '{action}' TERM; mkdir -p output/cpu/Result_0; while :; do sleep 0.1; done"
    replace_net_run(phone, bundle, endless)
    check_stopping(on_phone)


def test_a_phone_without_setsid_stops_too(bundle: Bundle, tmp_path: Path) -> None:
    """Without setsid the job has no process group, and its script would wait for the program."""
    with virtual_phone(tmp_path / "phone", faults=["lacks:setsid"]) as phone, pushed(phone, bundle, tmp_path) as job:
        replace_net_run(phone, bundle, "mkdir -p output/cpu/Result_0; sleep 7391")
        check_stopping(job)


@pytest.mark.slow
def test_a_killed_job_goes_on_after_its_last_whole_chunk(phone: Phone, bundle: Bundle, on_phone: PhoneJob) -> None:
    mark = layout.remote_bundle(bundle.id) / "mark"
    wait = f"while [ -e {mark} ]; do sleep 0.1; done"
    replace_net_run(phone, bundle, f'{wait}\nPATH=${{PATH#*:}} exec snpe-net-run "$@"')
    on_phone.start(SETTINGS, CHUNKS[:1])
    until(on_phone, lambda status: status.done == CHUNKS[:1] and not status.alive)
    sh(phone, f"touch {mark}")
    on_phone.start(SETTINGS, CHUNKS[1:])
    until(on_phone, lambda status: status.alive and status.current == CHUNKS[1])
    owner = sh(phone, f"readlink {layout.remote_bundle(bundle.id)}/lock").partition(":")[0]
    sh(phone, f"kill -9 {owner}")  # the script alone: what it started lives on, and holds the chunk's folder
    status = until(on_phone, lambda status: not status.alive)
    assert (status.state, status.queued, status.done) == ("running", CHUNKS[1:], CHUNKS[:1])
    left = "grep -l -F bin/snpe-net-run /proc/[0-9]*/cmdline | wc -l"
    assert int(sh(phone, left)) >= 1
    sh(phone, f"rm {mark}; touch {mark}")
    phone.run(["sh", "-c", f"(sleep 1; rm {mark}) </dev/null >/dev/null 2>&1 &"], doing="x", timeout_s=30)
    on_phone.start(SETTINGS, CHUNKS[1:])
    assert until(on_phone, lambda status: status.state == "finished").done == CHUNKS


@pytest.mark.slow
@pytest.mark.parametrize("owner", ["BYSTANDER:other-boot:cpu", "99999999:BOOT:cpu", "nonsense", "BYSTANDER:BOOT:cpu"])
def test_a_stale_lock_is_broken_and_nobody_else_is_hurt(
    owner: str, phone: Phone, bundle: Bundle, on_phone: PhoneJob
) -> None:
    """The lock is from before a restart, of a dead process, of nobody, or of a foreign process, which must live on."""
    boot = sh(phone, "cat /proc/sys/kernel/random/boot_id").strip()
    bystander = sh(phone, "setsid sleep 60 </dev/null >/dev/null 2>&1 & echo $!").strip()
    held = owner.replace("BOOT", boot).replace("BYSTANDER", bystander)
    try:
        sh(phone, f"ln -s '{held}' {layout.remote_bundle(bundle.id)}/lock")
        on_phone.start(SETTINGS, CHUNKS[:1])
        assert until(on_phone, lambda status: not status.alive).state == "finished"
    finally:
        sh(phone, f"kill {bystander}")


def test_a_failed_run_is_told_with_its_exit_code(phone: Phone, bundle: Bundle, on_phone: PhoneJob) -> None:
    replace_net_run(phone, bundle, "echo something is wrong; exit 3")
    on_phone.start(SETTINGS, CHUNKS)
    status = until(on_phone, lambda status: not status.alive)
    assert (status.state, status.exit, status.current, status.queued) == ("failed", "3", CHUNKS[0], CHUNKS)
    assert on_phone.log() == b"something is wrong\n"


@pytest.mark.slow
def test_a_log_without_end_is_bounded(phone: Phone, bundle: Bundle, on_phone: PhoneJob) -> None:
    """Its head and its tail are kept, also those of later runs, and the exit code is the program's."""
    chatter = "echo first; for n in 1 2 3 4 5 6; do yes nothing | head -c 5000000; sleep 1; done; echo last; exit 3"
    replace_net_run(phone, bundle, chatter)
    on_phone.start(SETTINGS, CHUNKS)
    status = until(on_phone, lambda status: not status.alive)
    assert (status.state, status.exit) == ("failed", "3")
    log = on_phone.log()
    assert log.startswith(b"first\n")
    assert log.endswith(b"last\n")
    assert 1_500_000 < len(log) < 5_000_000
    assert int(sh(phone, f"du -s -k {layout.remote_bundle(bundle.id)}/jobs").split()[0]) < 12_000


@pytest.mark.slow
def test_a_fallback_does_what_the_runtime_cannot(phone: Phone, bundle: Bundle, on_phone: PhoneJob) -> None:
    real = 'PATH=${PATH#*:} exec snpe-net-run "$@"'
    replace_net_run(phone, bundle, f'case "$*" in *--use_gpu*) echo no gpu; exit 1 ;; esac\n{real}')
    job = PhoneJob(phone, bundle.id, "gpu")
    job.start(replace(SETTINGS, runtime="gpu", fallback="cpu"), CHUNKS[:1])
    until(job, lambda status: status.state == "finished")
    assert job.give(CHUNKS[0], io.BytesIO(), 1 << 20).runtime == "cpu"
    assert b"no gpu" in job.log()


def test_options_reach_the_tool(phone: Phone, bundle: Bundle, on_phone: PhoneJob) -> None:
    replace_net_run(phone, bundle, 'echo "$ADSP_LIBRARY_PATH" "$@"; exit 1')
    on_phone.start(replace(SETTINGS, perf_profile="balanced", platform_options="unsignedPD:ON"), CHUNKS)
    until(on_phone, lambda status: status.state == "failed")
    said = on_phone.log().decode()
    here = layout.remote_bundle(bundle.id)
    assert f"{here}/dsp;/system/lib/rfsa/adsp;/system/vendor/lib/rfsa/adsp;/dsp" in said
    assert re.search(rf"--container \S*{here}/model.dlc", said)
    assert "--perf_profile balanced --profiling_level basic --platform_options unsignedPD:ON" in said


TOLD = """state=failed
alive=yes
run='0123abcd'
profile='balanced'
platform_options='unsignedPD:ON;x=1'
fallback='cpu'
chunk_size='7'
chunk=0000007-0000014
begun=3
queued=0000007-0000014
queued=0000014-0000020
done=0000003-0000007
done=0000000-0000003
exit=3
free_kb=63
seen=state=failed:chunk=0000007-0000014:3:done/0000000-0000003.tgz
"""


def test_status_is_what_the_script_tells() -> None:
    assert Status.read(TOLD, "dsp") == Status(
        state="failed",
        settings=Settings("0123abcd", "dsp", "balanced", "unsignedPD:ON;x=1", "cpu", 7),
        alive=True,
        current=Chunk(7, 14),
        begun=3,
        queued=(Chunk(7, 14), Chunk(14, 20)),
        done=(Chunk(0, 3), Chunk(3, 7)),
        exit="3",
        disk_full=True,
        seen="state=failed:chunk=0000007-0000014:3:done/0000000-0000003.tgz",
    )
    assert not Status.read(TOLD.replace("=63", "=64"), "dsp").disk_full
    least = Status.read("run='a'\nchunk_size='1'\nfallback='gpu'", "gpu")
    assert least.settings == Settings("a", "gpu", perf_profile="", chunk=1)
    assert Status.read("run='a'", "gpu").settings is None
    assert Status.read("chunk_size='1'", "gpu").settings is None
    assert Settings("a", "cpu") == Settings("a", "cpu", "burst", "", "", 500)


def test_status_of_odd_words() -> None:
    assert Status.read("", "cpu") == Status("none", None, False, None, 0, (), (), "", False)
    odd = "state=running\nchunk=nonsense\nrun='a'\nchunk_size='x'\ndone=1-2\ndone=0000000-0000001\nbegun=?\nalive=no"
    assert Status.read(odd, "dsp") == Status("running", None, False, None, 0, (), (Chunk(0, 1),), "", False)


@pytest.mark.parametrize(
    ("begin", "end", "seconds"),
    [
        ("1700000000000000000", "1700000001500000000", 1.5),
        ("1700000000", "1700000002", 2.0),
        ("", "5", 0.0),
        ("9", "5", 0.0),
    ],
)
def test_the_phones_clock(begin: str, end: str, seconds: float) -> None:
    assert seconds_between(begin, end) == seconds
