"""Tests phones of a cluster's hosts: chosen, shared and lost; on loopback, with separate adb servers."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundler import cli, layout
from bundler.bundle import Bundle
from bundler.device.chunks import Chunk
from bundler.device.phone import AdbServer
from bundler.device.probe import PhoneFacts
from bundler.device.server import private_adb_server
from bundler.errors import ClusterUnusable, OutputsInvalid, PhoneError, PhoneLost, RunFailed, RunUnfinished, UsageError
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.pipeline.deploy import DeployRequest, deploy_bundle
from bundler.pipeline.evaluate import EvaluateRequest, evaluate_bundles
from bundler.pipeline.fetch import FetchRequest, fetch_answers
from bundler.pipeline.host import list_phones
from bundler.pipeline.simulate import SimulateRequest, simulate_bundle
from bundler.runs.owner import owning
from bundler.runs.record import Run
from bundler.scheduler.hosts import Hosts, RemotePhone
from bundler.scheduler.member import Member, Wish
from bundler.scheduler.remote import Recruits, read_reply
from bundler.soc import find_soc
from bundler.types import TensorSpec
from bundler.virtual.phones import VirtualPhone, start_phone, stop_phone
from tests.clusters import IS_OLD, WAIT_S, DaskCluster, eventually, tls_settings
from tests.deploying import quiet
from tests.test_crew import SOC, phones, questions
from tests.test_deploy import logits_of

COUNT = 24  # questions, a window each
NOWHERE = AdbServer("127.0.0.1", 9)
TIMEOUT_S = 100.0
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    pytest.importorskip("distributed")
    made = DaskCluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def cluster(scheduler: DaskCluster) -> Iterator[DaskCluster]:
    """Provides a scheduler without other processes."""
    yield scheduler
    scheduler.renew()


@pytest.fixture
def no_phones() -> Iterator[AdbServer]:
    """A host starts the adb server that it uses."""
    with private_adb_server() as server:
        yield server


@pytest.fixture(scope="module")
def made(request_for: BuildRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    asked = replace(request_for, questions=questions(COUNT))
    return build_bundle(asked, tmp_path_factory.mktemp("made") / "bundle", quiet)


@pytest.fixture
def bundle(made: Bundle, tmp_path: Path) -> Bundle:
    return replace(made, path=shutil.copytree(made.path, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def alone(made: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Returns the logits of one phone at this computer."""
    folder = tmp_path_factory.mktemp("alone")
    bundle = replace(made, path=shutil.copytree(made.path, folder / "bundle"))
    with phones(folder, ["run-time:0"]) as ((phone,), server):
        request = DeployRequest(devices=[phone.serial], timeout_s=TIMEOUT_S)
        return logits_of(bundle, deploy_bundle(bundle.path, server, request, quiet))


def same(bundle: Bundle, run: Run, alone: dict[str, np.ndarray]) -> bool:
    logits = logits_of(bundle, run)
    return run.finished and all(np.array_equal(logits[name], alone[name]) for name in alone)


def deploy(bundle: Bundle, cluster: DaskCluster, told: list[str] | None = None, **options: object) -> Run:
    request = DeployRequest(cluster=cluster.address, timeout_s=TIMEOUT_S, **options)  # type: ignore[arg-type]
    said = [] if told is None else told
    return deploy_bundle(bundle.path, NOWHERE, request, quiet, tell=said.append)


def offered(cluster: DaskCluster, *names: str) -> None:
    """Waits until the cluster has exactly these phones."""
    hosts = Hosts(cluster.address, lambda _: None)
    try:
        eventually(lambda: {phone.name for phone in hosts.phones()} == set(names))
    finally:
        hosts.close()


@contextmanager
def client(bundle: Path, cluster: DaskCluster, *options: str, begun: bool = True) -> "Iterator[subprocess.Popen[str]]":
    """Runs the command in a separate process; with `begun`, waits for its first logits."""
    command = [
        sys.executable, "-m", "bundler.cli", "deploy", str(bundle), "--cluster", cluster.address, "--chunk", "4",
        *options,
    ]  # fmt: skip
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: not begun or bool(kept(bundle)) or running.poll() is not None)
        yield running
    finally:
        running.kill()
        running.communicate()


def kept(bundle: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in bundle.glob(f"runs/*/{layout.LOGITS}/*.npz")}


def test_phones_of_two_hosts_share_a_run(
    cluster: DaskCluster, bundle: Bundle, alone: dict[str, np.ndarray], tmp_path: Path
) -> None:
    with phones(tmp_path, ["run-time:30"], ["run-time:30"], ["run-time:30"]) as (started, server):
        serials = [phone.serial for phone in started]
        cluster.add_host("one", server, serials[:2])
        cluster.add_host("two", server, serials[2:])
        names = [f"one/{serials[0]}", f"one/{serials[1]}", f"two/{serials[2]}"]
        offered(cluster, *names)
        told: list[str] = []
        run = deploy(bundle, cluster, told)
        assert same(bundle, run, alone)
        assert "dashboard" in told[0]
        assert sorted(part.phone for part in run.parts) == sorted(names)
        assert {part.host for part in run.parts} == {"one", "two"}
        assert all(part.chunks for part in run.parts)
        assert sum(part.pushed_bytes > 0 for part in run.parts) == 3
        groups = evaluate_bundles(EvaluateRequest(bundles=[bundle.path]), quiet).document["runs"][0]["latency_groups"]
        assert [(group["host"], group["phones"]) for group in groups] == [("one", 2), ("two", 1)]
        again = deploy(bundle, cluster, restart=True, phones=1, chunk=COUNT)
        assert same(bundle, again, alone)
        assert len(again.parts) == 1
    fetched = fetch_answers(bundle.path, NOWHERE, FetchRequest(), quiet)
    assert len(list(fetched.answered())) == COUNT
    document = evaluate_bundles(EvaluateRequest(bundles=[bundle.path]), quiet).document
    assert document["runs"][0]["phones"][0]["name"] in names
    assert document["runs"][0]["latency_groups"] == []


def test_a_host_that_is_killed_gives_its_chunks_back(
    cluster: DaskCluster, bundle: Bundle, alone: dict[str, np.ndarray], tmp_path: Path
) -> None:
    with phones(tmp_path, ["run-time:100"], ["run-time:100"]) as ((first, second), server):
        cluster.add_host("one", server, [first.serial])
        lost = cluster.add_host("two", server, [second.serial])
        offered(cluster, f"one/{first.serial}", f"two/{second.serial}")
        with client(bundle.path, cluster, "--json") as running:
            lost.send_signal(signal.SIGKILL)
            out, said = running.communicate(timeout=2 * WAIT_S)
        assert running.returncode == 0, said
        assert "host two is gone" in said
        assert "Traceback" not in said
        parts = json.loads(out)["parts"]
        assert {part["host"]: part["trouble"] for part in parts}["one"] == ""
        assert same(bundle, Run.read(next(bundle.path.glob(f"runs/*/{layout.RUN}"))), alone)


def test_a_host_that_is_silent_is_lost_and_may_come_back(
    cluster: DaskCluster, bundle: Bundle, alone: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundler.scheduler.hosts.SILENT_S", 3.0)
    stages: list[str] = []
    with phones(tmp_path, ["run-time:100"]) as ((phone,), server):
        host = cluster.add_host("one", server, [phone.serial])
        offered(cluster, f"one/{phone.serial}")

        def watch(stage: str, done: int, total: int | None, /) -> None:
            stages.append(stage)
            if done == 8 and host.poll() is None and not any("waiting" in each for each in stages):
                host.send_signal(signal.SIGSTOP)
            if "host one is gone" in stage:
                host.send_signal(signal.SIGCONT)

        request = DeployRequest(cluster=cluster.address, timeout_s=TIMEOUT_S, chunk=4)
        run = deploy_bundle(bundle.path, NOWHERE, request, watch)
    assert any("host one is gone; waiting" in stage for stage in stages)
    assert same(bundle, run, alone)


def comes(server: AdbServer, serial: str) -> bool:
    """Returns whether a phone is attached; the host, which lost it, may close a connection in progress."""
    try:
        return server.find(serial).serial == serial
    except PhoneError:
        return False


def test_a_phone_that_is_unplugged_loses_nothing(
    cluster: DaskCluster, bundle: Bundle, alone: dict[str, np.ndarray], tmp_path: Path
) -> None:
    with phones(tmp_path, ["run-time:100"], ["run-time:100"]) as ((first, second), server):
        cluster.add_host("one", server)
        for phone in (first, second):
            server.find(phone.serial)
        offered(cluster, f"one/{first.serial}", f"one/{second.serial}")
        with client(bundle.path, cluster) as running:
            stop_phone(second)
            _, said = running.communicate(timeout=2 * WAIT_S)
        assert running.returncode == 0, said
        assert same(bundle, Run.read(next(bundle.path.glob(f"runs/*/{layout.RUN}"))), alone)
        offered(cluster, f"one/{first.serial}")
        again = start_phone(SOC, second.port, second.state)
        try:
            eventually(lambda: comes(server, again.serial))
            offered(cluster, f"one/{first.serial}", f"one/{again.serial}")
        finally:
            stop_phone(again)
        assert "is gone" in cluster.log("one")


def test_phones_that_come_while_a_run_goes_on_help(
    cluster: DaskCluster, bundle: Bundle, alone: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host joins, and a lost phone returns; the first phone waits for them."""
    monkeypatch.setattr("bundler.scheduler.remote.RETURN_S", 0.0)
    more, joined, again, waiting = Recruits.more, list[str](), list[VirtualPhone](), list[threading.Thread]()
    back = threading.Event()
    with phones(tmp_path, ["run-time:30"], ["run-time:30"]) as ((first, second), server), ExitStack() as ending:
        name = f"two/{second.serial}"

        def watch(stage: str, done: int, total: int | None, /) -> None:
            if done and not waiting:
                waiting.append(threading.current_thread())
            if threading.current_thread() in waiting:
                assert back.wait(2 * WAIT_S)

        def watched(recruits: Recruits, wish: Wish, at_work: Collection[str]) -> list[Member[RemotePhone]]:
            if waiting and len(cluster.hosts) == 1:
                cluster.add_host("two", server, [second.serial])
            elif len(joined) == 1 and name in at_work:
                stop_phone(second)
            come = more(recruits, wish, at_work)
            if len(joined) == 1 and not again and name not in {*at_work, *recruits._hosts.attached()}:
                again.append(start_phone(SOC, second.port, second.state, faults=["run-time:30"]))
                ending.callback(stop_phone, again[0])
            joined.extend(member.target.name for member in come)
            if len(joined) == 2:
                back.set()
            return come

        monkeypatch.setattr(Recruits, "more", watched)
        cluster.add_host("one", server, [first.serial])
        offered(cluster, f"one/{first.serial}")
        request = DeployRequest(cluster=cluster.address, timeout_s=TIMEOUT_S, chunk=2, phones=2)
        run = deploy_bundle(bundle.path, NOWHERE, request, watch)
    assert joined == [name, name]
    assert {part.host for part in run.parts} == {"one", "two"}
    assert sum(part.chunks for part in run.parts) == COUNT // 2
    assert same(bundle, run, alone)


def test_where_no_phone_comes_back_the_loss_is_told(
    cluster: DaskCluster, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundler.scheduler.remote.RETURN_S", 2.0)
    with phones(tmp_path, ["run-time:100"]) as ((phone,), server):
        host = cluster.add_host("one", server, [phone.serial])
        offered(cluster, f"one/{phone.serial}")

        def end(stage: str, done: int, total: int | None, /) -> None:
            if done == 8:
                host.kill()

        request = DeployRequest(cluster=cluster.address, timeout_s=TIMEOUT_S, chunk=4)
        with pytest.raises(PhoneLost, match=f"phone one/{phone.serial}: connection lost .*: host one is gone"):
            deploy_bundle(bundle.path, NOWHERE, request, end)
        with pytest.raises(RunUnfinished, match="not finished") as told:
            fetch_answers(bundle.path, NOWHERE, FetchRequest(), quiet)
        assert "mbqa-bundle deploy --cluster ADDRESS --runtime cpu" in told.value.hint


def test_a_client_that_is_killed_goes_on_with_the_same_command(
    cluster: DaskCluster, bundle: Bundle, alone: dict[str, np.ndarray], tmp_path: Path
) -> None:
    with phones(tmp_path, ["run-time:100"], ["run-time:100"]) as ((first, second), server):
        cluster.add_host("one", server, [first.serial])
        lost = cluster.add_host("two", server, [second.serial])
        offered(cluster, f"one/{first.serial}", f"two/{second.serial}")
        with client(bundle.path, cluster) as running:
            running.kill()
        before = kept(bundle.path)
        assert before
        lost.kill()
        offered(cluster, f"one/{first.serial}")
        run = deploy(bundle, cluster)
        assert before.items() <= kept(bundle.path).items()
        assert same(bundle, run, alone)


def test_a_scheduler_that_is_started_anew(
    cluster: DaskCluster, bundle: Bundle, alone: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """Restarts its hosts too, as systemd does."""
    with phones(tmp_path, ["run-time:100"]) as ((phone,), server):
        cluster.add_host("one", server, [phone.serial])
        offered(cluster, f"one/{phone.serial}")
        with client(bundle.path, cluster) as running:
            cluster.stop()
            cluster.start()
            cluster.add_host("one", server, [phone.serial])
            _, said = running.communicate(timeout=2 * WAIT_S)
        assert running.returncode == 0, said
    assert same(bundle, Run.read(next(bundle.path.glob(f"runs/*/{layout.RUN}"))), alone)


def test_a_busy_phone_keeps_no_other_one_idle(
    cluster: DaskCluster, bundle: Bundle, alone: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """It may hold two chunks, and the other phone of its host does all others."""
    idle, taken = threading.Event(), threading.Event()
    with phones(tmp_path, ["run-time:0"], ["run-time:0"]) as ((busy, other), server):
        cluster.add_host("one", server, [busy.serial, other.serial])
        offered(cluster, f"one/{busy.serial}", f"one/{other.serial}")

        def use() -> None:
            with owning(cluster.lease(busy.serial), "another host"):
                taken.set()
                idle.wait(TIMEOUT_S)

        def watch(stage: str, done: int, total: int | None, /) -> None:
            if done >= COUNT - 8:
                idle.set()

        user = threading.Thread(target=use)
        user.start()
        try:
            assert taken.wait(WAIT_S)
            request = DeployRequest(cluster=cluster.address, timeout_s=TIMEOUT_S / 2, chunk=4)
            assert same(bundle, deploy_bundle(bundle.path, NOWHERE, request, watch), alone)
        finally:
            idle.set()
            user.join(WAIT_S)


def test_two_clients_share_a_phone_by_chunks(
    cluster: DaskCluster, made: Bundle, alone: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """Uses the same bundle too, whose runs on a phone must not interfere."""
    bundles = [replace(made, path=shutil.copytree(made.path, tmp_path / name)) for name in ("a", "b")]
    with phones(tmp_path, ["run-time:100"]) as ((phone,), server):
        cluster.add_host("one", server, [phone.serial])
        offered(cluster, f"one/{phone.serial}")
        with (
            client(bundles[0].path, cluster, begun=False) as first,
            client(bundles[1].path, cluster, begun=False) as second,
        ):
            hosts = Hosts(cluster.address, lambda _: None)
            eventually(lambda: any("windows" in each.doing for each in hosts.phones()))
            hosts.close()
            for running in (first, second):
                _, said = running.communicate(timeout=2 * WAIT_S)
                assert running.returncode == 0, said
    first_times, second_times = (kept(bundle.path).values() for bundle in bundles)
    assert min(second_times) < max(first_times)
    assert min(first_times) < max(second_times)
    for bundle in bundles:
        assert same(bundle, Run.read(next(bundle.path.glob(f"runs/*/{layout.RUN}"))), alone)


def test_two_hosts_that_offer_the_same_phone_leave_each_other_s_chunks_alone(
    cluster: DaskCluster, bundle: Bundle, alone: dict[str, np.ndarray], tmp_path: Path
) -> None:
    with phones(tmp_path, ["run-time:30"]) as ((phone,), server):
        for name in ("one", "two"):
            cluster.add_host(name, server, [phone.serial])
        offered(cluster, f"one/{phone.serial}", f"two/{phone.serial}")
        assert same(bundle, deploy(bundle, cluster, chunk=4), alone)


def test_a_host_of_another_release_is_refused_by_its_name(
    cluster: DaskCluster, bundle: Bundle, no_phones: AdbServer
) -> None:
    cluster.add_host("elder", no_phones, customize=IS_OLD)
    eventually(lambda: "joined" in cluster.log("elder"))
    with pytest.raises(ClusterUnusable, match=r"host elder has mbqa-bundle 0\.0\.1, and this is"):
        deploy(bundle, cluster)


def test_phones_are_chosen_and_the_others_told(cluster: DaskCluster, bundle: Bundle, tmp_path: Path) -> None:
    with phones(tmp_path, ["run-time:0"], ["run-fail:6:always"]) as ((good, bad), server):
        cluster.add_host("one", server, [good.serial])
        offered(cluster, f"one/{good.serial}")
        told: list[str] = []
        with pytest.raises(ClusterUnusable, match=r"no phone for this run: .* is another one: SM8650"):
            deploy(bundle, cluster, told, soc=find_soc("SM8550"))
        with pytest.raises(ClusterUnusable, match="no phone for this run"):
            deploy(bundle, cluster, hexagon=73)
        run = deploy(bundle, cluster, soc=find_soc("SM8650"), hexagon=75, phones=5, chunk=COUNT)
        assert [part.phone for part in run.parts] == [f"one/{good.serial}"]
        cluster.add_host("two", server, [bad.serial])
        offered(cluster, f"one/{good.serial}", f"two/{bad.serial}")
        stop_phone(good)
        offered(cluster, f"two/{bad.serial}")
        with pytest.raises(RunFailed, match=f"phone two/{bad.serial}: .*Graph Execution failure") as failed:
            deploy(bundle, cluster, restart=True, chunk=COUNT)
        (log,) = bundle.path.glob("runs/*/log-two_*.txt")
        assert str(log) in failed.value.hint


def test_the_list_of_phones(
    cluster: DaskCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    assert cli.main(["phones", "--cluster", cluster.address]) == 0
    assert "no host offers a phone" in capsys.readouterr().out
    with phones(tmp_path, []) as ((phone,), server):
        host = cluster.add_host("one", server, [phone.serial])
        offered(cluster, f"one/{phone.serial}")
        assert cli.main(["phones", "--cluster", cluster.address]) == 0
        shown = capsys.readouterr().out
        assert "dashboard: http" in shown
        assert f"one {phone.serial} Virtual" in " ".join(shown.replace("\u2502", " ").split())
        assert cli.main(["phones", "--cluster", cluster.address, "--json"]) == 0
        (told,) = json.loads(capsys.readouterr().out)
        assert (told["host"], told["hexagon"], told["runtimes"]) == ("one", 75, ["cpu", "gpu", "dsp"])
        assert told["free_bytes"] > 0
        host.send_signal(signal.SIGTERM)
        assert host.wait(WAIT_S) == 0


def test_a_host_whose_scheduler_is_gone_ends(cluster: DaskCluster, no_phones: AdbServer) -> None:
    host = cluster.add_host("one", no_phones)
    eventually(lambda: "joined" in cluster.log("one"))
    cluster.scheduler.kill()
    assert host.wait(WAIT_S) == ClusterUnusable.exit_code
    said = cluster.log("one")
    assert "is lost" in said
    assert "Traceback" not in said


def test_a_host_over_tls(
    bundle: Bundle, alone: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host, a run and a list of phones need a certificate."""
    monkeypatch.setattr("bundler.scheduler.hosts.CONNECT_S", 2.0)
    with phones(tmp_path, ["run-time:0"]) as ((phone,), server), monkeypatch.context() as patch:
        for name, value in tls_settings(tmp_path).items():
            patch.setenv(name, value)
        cluster = DaskCluster(tmp_path, "tls")
        try:
            cluster.add_host("one", server, [phone.serial])
            eventually(lambda: "is there" in cluster.log("one"))
            with client(bundle.path, cluster, "--chunk", str(COUNT), begun=False) as running:
                _, said = running.communicate(timeout=WAIT_S)
            assert running.returncode == 0, said
            patch.undo()
            stranger = cluster.add_host("two", server, [phone.serial])
            with pytest.raises(ClusterUnusable, match="cannot be connected to"):
                list_phones(cluster.address, lambda _: None)
            assert stranger.wait(WAIT_S) == ClusterUnusable.exit_code
            assert "cannot be joined" in cluster.log("two")
        finally:
            cluster.stop()
    assert same(bundle, Run.read(next(bundle.path.glob(f"runs/*/{layout.RUN}"))), alone)


def test_two_hosts_of_one_name_and_a_simulation(cluster: DaskCluster, built: Path, no_phones: AdbServer) -> None:
    cluster.add_host("one", no_phones)
    eventually(lambda: "joined" in cluster.log("one"))
    with pytest.raises(ClusterUnusable, match="has hosts of phones"):
        simulate_bundle(built, SimulateRequest(cluster=cluster.address), quiet)
    second = cluster.add_host("one", no_phones)
    assert second.wait(WAIT_S) == ClusterUnusable.exit_code


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["host", "tcp://192.0.2.7:8786"], ClusterUnusable.exit_code, "on another computer, and without TLS"),
        (["host", "127.0.0.1"], ClusterUnusable.exit_code, "is not a scheduler's address"),
        (["phones", "--cluster", "tcp://192.0.2.7:8786"], ClusterUnusable.exit_code, "without TLS"),
        (["deploy", "--cluster", "tcp://192.0.2.7:8786"], ClusterUnusable.exit_code, "without TLS"),
        (["deploy", "--cluster", "tcp://127.0.0.1:9", "--all"], UsageError.exit_code, "are for phones here"),
        (["deploy", "--cluster", "tcp://127.0.0.1:9", "--detach"], UsageError.exit_code, "--detach is for phones here"),
        (["deploy", "--hexagon", "75"], UsageError.exit_code, "choose a cluster's phones"),
    ],
)
def test_bad_options(command: list[str], code: int, said: str, built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--bundle", str(built)] if command[0] == "deploy" else []
    assert cli.main([*command, *options]) == code
    assert said in capsys.readouterr().err


class Told(Hosts):
    """Hosts with these phones."""

    def __init__(self, *names: str) -> None:
        self.address, self.names = "tcp://127.0.0.1:9", set(names)

    def attached(self) -> set[str]:
        return set(self.names)

    def phones(self, names: Collection[str] | None = None) -> list[RemotePhone]:
        facts = PhoneFacts("SM8650", "arm64-v8a", "a phone", "14", None, "/bin/snpe-net-run")
        places = (name.split("/") for name in sorted(self.names))
        return [RemotePhone(host, serial, facts, "", "") for host, serial in places]


def test_whom_a_run_takes(made: Bundle) -> None:
    hosts, wish = Told("one/a", "one/b", "two/c"), Wish("cpu", "auto")
    recruits = Recruits(hosts, made, None, None, 2, lambda _: None)

    def more(*at_work: str) -> list[str]:
        return [member.target.name for member in recruits.more(wish, at_work)]

    assert [member.target.name for member in recruits.first(wish)] == ["one/a", "one/b"]
    assert more("one/a", "one/b") == []
    hosts.names.remove("one/a")
    assert more("one/a", "one/b") == []  # it is waited for
    assert more("one/b") == ["two/c"]
    hosts.names.add("one/a")
    assert more("one/b", "two/c") == []
    assert more("two/c") == ["one/a"]  # it was away, and the other one has been there
    assert more() == []


def test_a_host_s_replies_are_checked() -> None:
    chunk, specs = Chunk(0, 2), (TensorSpec("a", "float32", (1, 2)), TensorSpec("b", "float32", (1, 2)))
    values = np.arange(8, dtype="<f4")
    body = values.tobytes()
    times = {"phone": "p", "runtime": "cpu", "windows": 2, "seconds": 1.0, "results_s": [0.5, 1.0], "from_begin": True}

    def told(content: bytes = body, **other: object) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        return {"sha256": digest, "times": times, "logits_bytes": 32, "pushed_bytes": 1, **other}

    logits, _, log = read_reply(told(body + b"log"), body + b"log", chunk, specs, "it")
    assert np.array_equal(logits["b"], values[4:].reshape(2, 1, 2))
    assert log == b"log"
    infinite = np.full(8, np.inf, "<f4").tobytes()
    for head, content in (
        (told(), body[:-1]),
        (told(body[:-4]), body[:-4]),
        (told(infinite), infinite),
        (told(logits_bytes=16), body),
        (told(times={**times, "windows": 3}), body),
        (told(times=None), body),
        (told(pushed_bytes="1"), body),
        ({}, body),
    ):
        with pytest.raises(OutputsInvalid, match="not a reply of a host"):
            read_reply(head, content, chunk, specs, "it")


def test_a_host_s_jobs_are_checked() -> None:
    """Names are inserted into a phone's shell scripts."""
    from bundler.scheduler.host import Sent, compute_on_phone

    for name, sha256, mode in (
        ("../x", "0" * 64, "644"),
        ("a\nb", "0" * 64, "644"),
        ("a", "0", "644"),
        ("a", "0" * 64, "x"),
    ):
        with pytest.raises(ValueError, match="is not a file for a phone"):
            Sent(name, sha256, 1, mode)
    reply = compute_on_phone(json.dumps({"version": "0.0.1", "name": "one/x"}).encode(), b"")
    assert b"and this is 0.0.1" in reply
    for job in (b"{}", b"[]", b"\x80\x04N."):
        assert b"internal error" in compute_on_phone(job, b"")
