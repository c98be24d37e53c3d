"""deploy and fetch-answers: one contract, kept by the virtual phone and by one of genuine parts."""

import json
import signal
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from bundler import layout
from bundler.build import BuildRequest, build_bundle
from bundler.bundle import Bundle
from bundler.deploy import check_fitness, deploy_bundle
from bundler.device.job import run_on_phone
from bundler.device.phone import Phone
from bundler.device.probe import probe
from bundler.device.server import private_adb_server
from bundler.device.store import damaged_files, push_bundle
from bundler.errors import (
    BundleInvalid,
    InputError,
    NoNetRun,
    OutputsInvalid,
    PhoneFull,
    PhoneLost,
    PhoneRefused,
    PhoneTooSlow,
    RunFailed,
    RuntimeUnsupported,
)
from bundler.fetch import Fetched, fetch_answers
from bundler.run import Run
from bundler.soc import known_socs
from bundler.types import Runtime
from bundler.virtual.phones import start_phone, stop_phone
from tests.conftest import quiet
from tests.phones import genuine_phone, virtual_phone, why_no_genuine_phone

RUN_S = 120.0


def deploy(phone: Phone, bundle: Bundle, runtime: Runtime = "cpu", timeout_s: float = RUN_S) -> Run:
    server = phone.server
    return deploy_bundle(
        bundle.path, server=server, serial=phone.serial, runtime=runtime, timeout_s=timeout_s, progress=quiet
    )


def fetch(phone: Phone, bundle: Bundle, runtime: Runtime | None = None) -> Fetched:
    return fetch_answers(bundle.path, server=phone.server, serial=phone.serial, runtime=runtime, progress=quiet)


def sh(phone: Phone, script: str) -> str:
    return phone.run(["sh", "-c", script], doing="a test's script", timeout_s=30).stdout.decode()


def test_probe_knows_the_phone(phone: Phone) -> None:
    facts = probe(phone)
    assert facts.soc is not None
    assert (facts.soc.name, facts.soc.hexagon, facts.abi) == ("SM8650", 75, "arm64-v8a")
    assert facts.free_bytes is not None
    assert facts.free_bytes > 1 << 20
    assert facts.net_run.endswith("/snpe-net-run")


def test_a_command_has_streams_and_an_exit_code(phone: Phone) -> None:
    sent = bytes(range(256)) * 5000
    done = phone.run(["sh", "-c", "cat; echo wrong >&2; exit 7"], doing="x", timeout_s=30, stdin=[sent], check=False)
    assert (done.exit_code, done.stdout, done.stderr) == (7, sent, b"wrong\n")


def test_arguments_reach_the_phone_as_they_are(phone: Phone) -> None:
    hostile = ["a b", "$(id)", "`id`", "'", '"', "*", ";", "\\", "new\nline", "é👩‍🚀", "$HOME", ""]
    done = phone.run(["printf", r"%s\0", *hostile], doing="x", timeout_s=30)
    assert done.stdout.decode().split("\0")[:-1] == hostile


def test_a_failing_command_is_said_with_its_last_line(phone: Phone) -> None:
    with pytest.raises(PhoneRefused, match=r"looking.*No such file"):
        phone.run(["cat", "/data/local/tmp/nowhere"], doing="looking", timeout_s=30)


def test_a_wait_has_a_limit(phone: Phone) -> None:
    with pytest.raises(PhoneTooSlow, match="sleeping"):
        phone.run(["sleep", "60"], doing="sleeping", timeout_s=0.5)


def test_a_failure_of_our_own_is_not_blamed_on_the_phone(phone: Phone) -> None:
    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        phone.run(["echo", "hello"], doing="x", timeout_s=30, on_stdout=full)


def test_a_crash_is_an_exit_code_and_the_phone_lives_on(phone: Phone) -> None:
    done = phone.run(["sh", "-c", "kill -SEGV $$"], doing="x", timeout_s=30, check=False)
    assert done.exit_code == 128 + signal.SIGSEGV
    assert sh(phone, "echo alive") == "alive\n"


def test_a_file_that_crashes_qualcomms_reader_does_not_crash_the_phone(phone: Phone, bundle: Bundle) -> None:
    """A changed bit of a table's offset sends the reader to memory that is mostly not there: it crashes or refuses."""
    remote = push_bundle(phone, bundle, bundle.device_files, free_bytes=None, progress=quiet)
    data = bytearray((bundle.path / layout.DEVICE / layout.MODEL).read_bytes())
    data[data.index(b"Gather0\0") + 16] ^= 8
    phone.run(["sh", "-c", f"cat >{remote}/{layout.MODEL}"], doing="x", timeout_s=30, stdin=[bytes(data)])
    done = phone.run(["sh", f"{remote}/{layout.RUNNER}", "cpu"], doing="x", timeout_s=RUN_S, check=False)
    assert done.exit_code in (1, 128 + signal.SIGSEGV)
    assert sh(phone, "echo alive") == "alive\n"
    sh(phone, f"rm -r {remote}")


@pytest.mark.parametrize("runtime", ["cpu", "dsp"])
def test_answers_come_back(phone: Phone, bundle: Bundle, runtime: Runtime, request_for: BuildRequest) -> None:
    run = deploy(phone, bundle, runtime)
    assert (run.soc, run.runtime, run.bundle_id) == ("SM8650", runtime, bundle.id)
    fetched = fetch(phone, bundle)
    contexts = {question.id: question.context for question in bundle.questions}
    assert [answer.question_id for answer in fetched.answers] == list(contexts)
    for answer in fetched.answers:
        assert answer.text
        assert answer.text == contexts[answer.question_id][answer.start : answer.end]
    document = json.loads(fetched.path.read_text(encoding="utf-8"))
    assert document["bundle"] == bundle.id
    assert document["runtime"] == runtime
    assert [entry["answer"] for entry in document["answers"]] == [answer.text for answer in fetched.answers]
    check_logits(bundle, run, request_for.model)


def check_logits(bundle: Bundle, run: Run, model: Path) -> None:
    """CPU: as ONNX Runtime on the ONNX file; DSP: within float16 of it."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for window in bundle.manifest.windows:
        feed = {
            name: np.fromfile(bundle.path / layout.DEVICE / path, "<f4").astype(np.int32)[None]
            for name, path in window.inputs.items()
        }
        for spec, expected in zip(session.get_outputs(), session.run(None, feed), strict=True):
            values = np.fromfile(run.folder(bundle.path) / layout.OUTPUT / window.outputs[spec.name], "<f4")
            if run.runtime == "cpu":
                assert np.abs(values - expected.ravel()).max() < 1e-4
            else:
                assert np.corrcoef(values, expected.ravel())[0, 1] > 0.9999


def test_a_second_deploy_pushes_nothing(phone: Phone, bundle: Bundle) -> None:
    stages: list[str] = []
    for _ in range(2):
        stages.clear()
        push_bundle(
            phone, bundle, bundle.device_files, free_bytes=None, progress=lambda stage, *_: stages.append(stage)
        )
    assert "pushing the bundle" not in stages


def test_what_was_damaged_on_the_phone_is_pushed_again(phone: Phone, bundle: Bundle) -> None:
    remote = push_bundle(phone, bundle, bundle.device_files, free_bytes=None, progress=quiet)
    sh(phone, f"cd {remote} && echo x >>{layout.MODEL} && rm {layout.INPUT_LIST}")
    assert set(damaged_files(phone, remote, bundle.device_files)) == {layout.MODEL, layout.INPUT_LIST}
    push_bundle(phone, bundle, bundle.device_files, free_bytes=None, progress=quiet)
    assert damaged_files(phone, remote, bundle.device_files) == []


def test_no_room_is_said_before_anything_is_pushed(phone: Phone, bundle: Bundle) -> None:
    remote = layout.remote_bundle(bundle.id)
    sh(phone, f"mkdir -p {layout.REMOTE_ROOT} && rm -rf {remote}")
    with pytest.raises(PhoneFull, match=r"0\.1 MB are free"):
        push_bundle(phone, bundle, bundle.device_files, free_bytes=100_000, progress=quiet)
    assert sh(phone, f"ls {layout.REMOTE_ROOT}").split().count(remote.name) == 0


def test_a_changed_bundle_is_refused(phone: Phone, bundle: Bundle) -> None:
    (bundle.path / layout.DEVICE / layout.RUNNER).write_text("rm -rf /")
    with pytest.raises(BundleInvalid, match=layout.RUNNER):
        deploy(phone, bundle)


def test_a_folder_that_is_a_file_is_said(phone: Phone, bundle: Bundle) -> None:
    sh(phone, f"rm -rf {layout.REMOTE_ROOT} && touch {layout.REMOTE_ROOT}")
    try:
        with pytest.raises(PhoneRefused, match=r"making .* failed: .*File exists"):
            deploy(phone, bundle)
    finally:
        sh(phone, f"rm -f {layout.REMOTE_ROOT}")


def test_a_run_that_fails_shows_the_tools_own_line(phone: Phone, request_for: BuildRequest, tmp_path: Path) -> None:
    bundle = build_bundle(request_for, tmp_path / "broken", quiet)
    remote = push_bundle(phone, bundle, bundle.device_files, free_bytes=None, progress=quiet)
    runner = f"{remote}/{layout.RUNNER}"
    sh(phone, f"sed -i 's/--container model.dlc/--container {layout.INPUT_LIST}/' {runner}")
    log = tmp_path / "log.txt"
    with pytest.raises(RunFailed, match=r"exit code 1: error_code=311"):
        run_on_phone(phone, remote, "cpu", windows=4, timeout_s=RUN_S, log=log, progress=quiet)
    assert "Dlc container is bad" in log.read_text()


def test_a_failed_run_leaves_no_record_and_no_answers(phone: Phone, bundle: Bundle) -> None:
    deploy(phone, bundle)
    answers = fetch(phone, bundle).path
    assert answers.exists()
    with pytest.raises(PhoneTooSlow):
        deploy(phone, bundle, timeout_s=0.05)
    assert not answers.exists()
    with pytest.raises(InputError, match="no finished run"):
        fetch(phone, bundle)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("rm {}", r"Result_2/end_logits\.raw .*is missing"),
        ("truncate -s 100 {}", r"Result_2/end_logits\.raw: has 100 bytes, not 1536"),
        ("printf '\\0\\0\\300\\177' >x && dd if=x of={} conv=notrunc seek=2 bs=4", r"value 2 is nan, not a finite"),
        ("rm -rf ../cpu", "no outputs of a run on the cpu"),
    ],
)
def test_damaged_outputs_are_refused(phone: Phone, bundle: Bundle, damage: str, said: str) -> None:
    run = deploy(phone, bundle)
    good = fetch(phone, bundle)
    sh(phone, f"cd {run.remote}/output/cpu && {damage.format('Result_2/end_logits.raw')}")
    with pytest.raises(OutputsInvalid, match=said):
        fetch(phone, bundle)
    deploy(phone, bundle)
    assert fetch(phone, bundle).answers == good.answers


def test_outputs_named_with_a_suffix_are_found(phone: Phone, bundle: Bundle) -> None:
    run = deploy(phone, bundle)
    good = fetch(phone, bundle)
    folder = f"{run.remote}/output/cpu/Result_1"
    sh(phone, f"mv {folder}/end_logits.raw {folder}/end_logits:0.raw")
    assert fetch(phone, bundle).answers == good.answers


def test_a_hostile_archive_writes_nothing_else(phone: Phone, bundle: Bundle) -> None:
    """What else lies in the output folder, links and odd names included, does not reach the host."""
    run = deploy(phone, bundle)
    sh(phone, f"cd {run.remote}/output/cpu && ln -s /etc/passwd link && echo x >'odd $(id) name' && mkdir -p a/b")
    before = {path for path in bundle.path.rglob("*") if "runs" not in path.parts}
    fetched = fetch(phone, bundle)
    after = {path.relative_to(fetched.path.parent).as_posix() for path in fetched.path.parent.rglob("*.*")}
    outputs = {f"output/{name}" for window in bundle.manifest.windows for name in window.outputs.values()}
    assert after == {*outputs, layout.RUN, layout.LOG, layout.ANSWERS}
    assert {path for path in bundle.path.rglob("*") if "runs" not in path.parts} == before


def test_a_rebuilt_bundle_has_no_run(phone: Phone, bundle: Bundle, request_for: BuildRequest) -> None:
    deploy(phone, bundle)
    rebuilt = build_bundle(replace(request_for, overlap=64), bundle.path, quiet)
    with pytest.raises(InputError, match="no finished run"):
        fetch(phone, rebuilt)


def test_a_phone_without_snpe_net_run_needs_it_in_the_bundle(phone: Phone, bundle: Bundle) -> None:
    facts = replace(probe(phone), net_run="")
    with pytest.raises(NoNetRun, match="there is no snpe-net-run"):
        check_fitness(phone, facts, bundle, "cpu")


@pytest.mark.parametrize(("soc", "said"), [("SM8350", "does not compute float16"), ("SM8250", "has no HTP")])
def test_a_chip_that_cannot_is_refused_for_dsp(soc: str, said: str, bundle: Bundle, tmp_path: Path) -> None:
    with virtual_phone(tmp_path / "phone", soc) as phone:
        with pytest.raises(RuntimeUnsupported, match=said):
            deploy(phone, bundle, "dsp")
        assert sh(phone, f"ls {layout.REMOTE_ROOT}") == ""
        deploy(phone, bundle, "cpu")


def test_a_phone_that_goes_away_is_lost_not_waited_for(tmp_path: Path) -> None:
    started = start_phone(known_socs()["SM8650"], 0, tmp_path / "phone")
    with private_adb_server() as server:
        phone = server.find(started.serial)
        ending = threading.Timer(0.5, stop_phone, [started])
        ending.start()
        with pytest.raises(PhoneLost, match="connection lost while sleeping"):
            phone.run(["sleep", "60"], doing="sleeping", timeout_s=30)
        ending.join()


def test_a_virtual_phone_listens_on_loopback_only_and_takes_its_jobs_with_it(tmp_path: Path) -> None:
    started = start_phone(known_socs()["SM8650"], 0, tmp_path / "phone")
    bystander = subprocess.Popen(["sleep", "60"], cwd=started.state / "storage")
    try:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        listening = [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{started.port:04X}")]
        assert listening == [f"0100007F:{started.port:04X}"]
        with private_adb_server() as server:
            phone = server.find(started.serial)
            sh(phone, "setsid sh -c 'echo $$ >/data/local/tmp/pid; sleep 60' </dev/null >/dev/null 2>&1 &")
            pid = int(sh(phone, "until [ -s /data/local/tmp/pid ]; do sleep 0.1; done; cat /data/local/tmp/pid"))
            assert Path(f"/proc/{pid}/cwd").exists()
            stop_phone(started)
        assert not Path(f"/proc/{pid}/cwd").exists()
        assert bystander.poll() is None  # a host's process that merely stands in the phone's storage
    finally:
        bystander.kill()
        bystander.wait()
        stop_phone(started)


@pytest.mark.genuine
@pytest.mark.parametrize("settings", [{"SIZE": "100k"}, {"AS_SHELL": "1"}], ids=["small disk", "user shell"])
def test_genuine_conditions(settings: dict[str, str], bundle: Bundle) -> None:
    """A disk that fills up in the middle; a daemon without root."""
    reason = why_no_genuine_phone()
    if reason:
        pytest.skip(reason)
    with genuine_phone(**settings) as phone:
        if "SIZE" in settings:
            with pytest.raises(PhoneFull):
                push_bundle(phone, bundle, bundle.device_files, free_bytes=None, progress=quiet)
            assert sh(phone, f"ls {layout.REMOTE_ROOT}") == ""
        else:
            push_bundle(phone, bundle, bundle.device_files, free_bytes=None, progress=quiet)
            assert damaged_files(phone, layout.remote_bundle(bundle.id), bundle.device_files) == []
