"""Tests simulated runs: on this computer's cores, and on a Dask cluster whose processes may die."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundler import cli, layout
from bundler.bundle import Bundle, Sample, read_bundle
from bundler.device.outputs import kept_chunks
from bundler.device.phone import AdbServer
from bundler.dlc import child
from bundler.dlc.child import Child, ChildDied, Networks, Task
from bundler.errors import ClusterUnusable, DlcInvalid, RunUnfinished, UsageError
from bundler.model.make import Recipe
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.pipeline.evaluate import EvaluateRequest, evaluate_bundles
from bundler.pipeline.fetch import FetchRequest, fetch_answers
from bundler.pipeline.simulate import SimulateRequest, simulate_bundle
from bundler.runs.record import Run
from bundler.scheduler.cluster import check_address
from bundler.scheduler.simulators import simulator_of
from bundler.types import Runtime
from tests.clusters import IS_OLD, WAIT_S, DaskCluster, eventually, free_port, tls_settings
from tests.deploying import quiet

NOWHERE = AdbServer("127.0.0.1", 9)
SLOW = """\
import sys, time
if "dask" in sys.orig_argv:
    from bundler.dlc.child import Networks
    execute = Networks.execute
    Networks.execute = lambda self, feed: (time.sleep(0.5), execute(self, feed))[1]
"""
CRASHES = "import os, sys\nif 'bundler.dlc.child' in sys.orig_argv:\n    os.kill(os.getpid(), 11)\n"


def values(bundle: Path, run: Run) -> list[list[float]]:
    """Returns all logits of a run, window by window."""
    found = []
    for chunk in sorted(kept_chunks(run.folder(bundle))):
        with np.load(run.folder(bundle) / layout.LOGITS / f"{chunk.name}.npz") as arrays:
            both = np.concatenate([arrays["start_logits"], arrays["end_logits"]], axis=-1)
            found += both.reshape(len(chunk), -1).tolist()
    return found


def test_a_simulated_run_is_fetched_and_evaluated_as_a_phone_s(bundle: Bundle) -> None:
    run = simulate_bundle(bundle.path, SimulateRequest(runtime="cpu"), quiet)
    assert (run.phones, run.simulated, run.finished) == (("simulator",), True, True)
    assert run.parts[0].windows == {"cpu": 4}
    fetched = fetch_answers(bundle.path, NOWHERE, FetchRequest(), quiet)
    assert [answer.question_id for _, answer in fetched.answered()] == ["when-built", "who", "long"]
    document = evaluate_bundles(EvaluateRequest(bundles=[bundle.path]), quiet).document
    assert document["runs"][0]["agreement"]["fraction"] == 1
    assert document["runs"][0]["latency"] is None


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["dsp", "gpu"])
def test_logits_are_those_of_any_number_of_workers(runtime: Runtime, bundle: Bundle) -> None:
    found = []
    for workers in (1, 3):
        request = SimulateRequest(runtime=runtime, workers=workers, restart=True)
        found.append(values(bundle.path, simulate_bundle(bundle.path, request, quiet)))
    assert found[0] == found[1]


def test_a_sample_is_answered_and_compared_alone(bundle: Bundle) -> None:
    run = simulate_bundle(bundle.path, SimulateRequest(runtime="cpu", sample=Sample(1)), quiet)
    assert run.sample == Sample(1)
    fetched = fetch_answers(bundle.path, NOWHERE, FetchRequest(), quiet)
    assert [answer.question_id for _, answer in fetched.answered()] == ["when-built"]
    evaluation = evaluate_bundles(EvaluateRequest(bundles=[bundle.path]), quiet)
    assert evaluation.document["questions_count"] == 1
    simulate_bundle(bundle.path, SimulateRequest(runtime="gpu"), quiet)
    evaluation = evaluate_bundles(EvaluateRequest(bundles=[bundle.path]), quiet)
    assert evaluation.document["questions_count"] == 3
    assert evaluation.passed_over == (f"{run.folder(bundle.path)}: a run of other questions",)


def test_a_sample_has_the_logits_of_the_whole(bundle: Bundle) -> None:
    """Includes a question with several windows that is not the first."""
    whole = values(bundle.path, simulate_bundle(bundle.path, SimulateRequest(runtime="cpu"), quiet))
    drawn = bundle.of(Sample(2, 5))
    assert [window.question_id for window in drawn.manifest.windows] == ["who", "long", "long"]
    assert drawn.offsets.tolist() == bundle.offsets[1:].tolist()
    run = simulate_bundle(bundle.path, SimulateRequest(runtime="cpu", sample=Sample(2, 5)), quiet)
    assert values(bundle.path, run) == whole[1:]


def test_the_seed_draws() -> None:
    samples = [tuple(Sample(10, seed).places(1000)) for seed in (1, 2, 1)]
    assert samples[0] == samples[2] != samples[1]
    assert Sample(3).places(1000) == [0, 1, 2]
    assert Sample(9, 1).places(4) == [0, 1, 2, 3]


def test_an_interrupted_simulation_goes_on(bundle: Bundle) -> None:
    request = SimulateRequest(runtime="cpu", workers=1)

    def stop(stage: str, done: int, total: int | None, /) -> None:
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_bundle(bundle.path, request, stop)
    with pytest.raises(RunUnfinished, match="not finished"):
        fetch_answers(bundle.path, NOWHERE, FetchRequest(), quiet)
    folder = layout.run_folder(bundle.path, "cpu", ["simulator"]) / layout.LOGITS
    kept = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert 2 <= len(kept) < 4
    simulate_bundle(bundle.path, request, quiet)
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(after) == 4
    assert kept.items() <= after.items()


def test_a_process_that_starts_while_the_others_are_ended_is_ended(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, task = simulator_of(bundle, "cpu", None)
    made: list[Child] = []

    def make(task: Task) -> Child:
        networks.close()
        made.append(Child(task))
        return made[-1]

    networks = Networks(task)
    monkeypatch.setattr(child, "Child", make)
    with pytest.raises(ChildDied, match="ended before it began"):
        networks.execute({})
    assert len(made) == 1
    with pytest.raises(ValueError, match="closed file"):
        made[0].execute({spec.name: np.zeros(spec.shape) for spec in made[0].inputs})


@pytest.mark.usefixtures("isolated")
def test_a_dlc_that_kills_the_simulator_is_told(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CRASHES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert cli.main(["simulate", str(bundle.path)]) == DlcInvalid.exit_code
    said = capsys.readouterr().err
    assert "model.dlc: the HTP's simulator died on it with code -11" in said
    assert "Traceback" not in said


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--limit", "2", "--sample", "2"], UsageError.exit_code, "--limit and --sample both say which questions"),
        (["--cluster", "tcp://127.0.0.1:9", "--workers", "2"], UsageError.exit_code, "--workers is for this computer"),
        (["--cluster", "127.0.0.1"], ClusterUnusable.exit_code, "is not a scheduler's address"),
        (["--cluster", "tcp://192.0.2.7:8786"], ClusterUnusable.exit_code, "on another computer, and without TLS"),
        (["--soc", "SM8250"], UsageError.exit_code, "its HTP takes no fp32"),
    ],
)
def test_bad_options(
    options: list[str], code: int, said: str, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["simulate", str(bundle.path), *options]) == code
    assert said in capsys.readouterr().err
    assert not list(bundle.path.glob(f"runs/*/{layout.RUN}"))


def test_addresses() -> None:
    for address in ("tls://192.0.2.7:8786", "tcp://127.0.0.1:8786", "tcp://localhost:1", "tcp://[::1]:1"):
        check_address(address, insecure=False)
    check_address("tcp://192.0.2.7:8786", insecure=True)
    for address in ("tcp://192.0.2.7:8786", "ucx://127.0.0.1:1", "tcp://:1", "tls://a", "tcp://a:99999", ""):
        with pytest.raises(ClusterUnusable):
            check_address(address, insecure=False)


# --- on a cluster


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


@contextmanager
def client(bundle: Path, cluster: DaskCluster, *options: str) -> "Iterator[subprocess.Popen[str]]":
    """Runs the command in a separate process, and waits for its first logits."""
    command = [sys.executable, "-m", "bundler.cli", "simulate", str(bundle), "--cluster", cluster.address, *options]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: bool(list(bundle.glob(f"runs/*/{layout.LOGITS}/*.npz"))) or running.poll() is not None)
        yield running
    finally:
        running.kill()
        running.communicate()


@pytest.fixture
def slow_bundle(bundle: Bundle) -> Path:
    """Returns a bundle that workers with SLOW compute slowly."""
    return bundle.path


@pytest.fixture(scope="module")
def expected(built: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[float]]:
    """Returns the result of this computer alone."""
    path = shutil.copytree(built, tmp_path_factory.mktemp("expected") / "bundle")
    return values(path, simulate_bundle(path, SimulateRequest(), quiet))


@pytest.mark.slow
def test_a_cluster_gives_the_same_and_gets_the_dlc_once(
    cluster: DaskCluster, slow_bundle: Path, expected: list[list[float]]
) -> None:
    cluster.add()
    cluster.add()
    told: list[str] = []
    run = simulate_bundle(slow_bundle, SimulateRequest(cluster=cluster.address), quiet, told.append)
    assert values(slow_bundle, run) == expected
    assert "dashboard" in told[0]
    assert 1 <= len(cluster.caches()) <= 2
    times = [path.stat().st_ino for path in cluster.caches()]
    again = simulate_bundle(slow_bundle, SimulateRequest(cluster=cluster.address, restart=True), quiet)
    assert values(slow_bundle, again) == expected
    assert set(times) <= {path.stat().st_ino for path in cluster.caches()}


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_its_chunk(
    cluster: DaskCluster, slow_bundle: Path, expected: list[list[float]]
) -> None:
    cluster.add(SLOW)
    cluster.add(SLOW)
    with client(slow_bundle, cluster, "--json") as running:
        cluster.workers[0].send_signal(signal.SIGKILL)
        out, said = running.communicate(timeout=WAIT_S)
    assert running.returncode == 0, said
    run = Run.read(next(slow_bundle.glob(f"runs/*/{layout.RUN}")))
    assert json.loads(out)["finished"]
    assert values(slow_bundle, run) == expected


@pytest.mark.slow
def test_a_client_that_is_killed_goes_on_with_the_same_command(
    cluster: DaskCluster, slow_bundle: Path, expected: list[list[float]]
) -> None:
    cluster.add(SLOW)
    with client(slow_bundle, cluster) as running:
        running.kill()
    kept = {path.name: path.stat().st_mtime_ns for path in slow_bundle.glob(f"runs/*/{layout.LOGITS}/*.npz")}
    assert kept
    run = simulate_bundle(slow_bundle, SimulateRequest(cluster=cluster.address), quiet)
    after = {path.name: path.stat().st_mtime_ns for path in slow_bundle.glob(f"runs/*/{layout.LOGITS}/*.npz")}
    assert kept.items() <= after.items()
    assert values(slow_bundle, run) == expected


@pytest.mark.slow
def test_a_scheduler_that_is_started_anew(cluster: DaskCluster, slow_bundle: Path, expected: list[list[float]]) -> None:
    cluster.add(SLOW)
    with client(slow_bundle, cluster) as running:
        cluster.stop()
        cluster.start()
        cluster.add(SLOW)
        _, said = running.communicate(timeout=2 * WAIT_S)
    assert running.returncode == 0, said
    run = Run.read(next(slow_bundle.glob(f"runs/*/{layout.RUN}")))
    assert values(slow_bundle, run) == expected


def test_a_worker_of_another_release_is_refused_by_its_address(cluster: DaskCluster, bundle: Bundle) -> None:
    cluster.add(IS_OLD)
    with pytest.raises(ClusterUnusable, match=r"worker tcp://127\.0\.0\.1:\d+: has mbqa-bundle 0\.0\.1, and this is"):
        simulate_bundle(bundle.path, SimulateRequest(runtime="cpu", cluster=cluster.address), quiet)


def test_a_dlc_that_kills_every_worker_s_simulator_is_told_once(cluster: DaskCluster, bundle: Bundle) -> None:
    cluster.add(CRASHES)
    with pytest.raises(DlcInvalid, match=r"model\.dlc: the HTP's simulator died on it with code -11"):
        simulate_bundle(bundle.path, SimulateRequest(cluster=cluster.address), quiet)


@pytest.mark.slow
def test_a_build_is_checked_by_a_cluster(cluster: DaskCluster, request_for: BuildRequest, tmp_path: Path) -> None:
    cluster.add()
    told: list[str] = []
    request = replace(request_for, recipe=Recipe("w8a16", converter="built-in"), check=True)
    here = build_bundle(request, tmp_path / "here", quiet)
    there = build_bundle(replace(request, cluster=cluster.address), tmp_path / "there", quiet, tell=told.append)
    assert (there.id, there.manifest.model) == (here.id, here.manifest.model)
    assert there.manifest.model.check is not None
    assert len(cluster.caches()) == 1
    assert cluster.address in told[0]


def test_a_build_asks_for_its_cluster_first(
    request_for: BuildRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundler.scheduler.cluster.CONNECT_S", 0.3)
    monkeypatch.setattr("bundler.pipeline.build.make_dlc", lambda *_: pytest.fail("the DLC was made"))
    nowhere = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(ClusterUnusable, match="cannot be connected to"):
        build_bundle(replace(request_for, check=True, cluster=nowhere), tmp_path / "bundle", quiet)
    with pytest.raises(ClusterUnusable, match="without TLS"):
        build_bundle(replace(request_for, keep=0.9, cluster="tcp://192.0.2.1:8786"), tmp_path / "bundle", quiet)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_tls_keeps_out_who_has_no_certificate(tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bundler.scheduler.cluster.CONNECT_S", 2.0)
    with monkeypatch.context() as patch:
        for name, value in tls_settings(tmp_path).items():
            patch.setenv(name, value)
        cluster = DaskCluster(tmp_path, "tls")
        try:
            cluster.add()
            with client(bundle.path, cluster, "--runtime", "cpu") as running:
                _, said = running.communicate(timeout=WAIT_S)
            assert running.returncode == 0, said
            patch.undo()
            with pytest.raises(ClusterUnusable, match="cannot be connected to"):
                simulate_bundle(bundle.path, SimulateRequest(cluster=cluster.address), quiet)
        finally:
            cluster.stop()


def test_a_cluster_without_workers(cluster: DaskCluster, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bundler.scheduler.cluster.WORKERS_S", 0.3)
    with pytest.raises(ClusterUnusable, match="has no worker"):
        simulate_bundle(bundle.path, SimulateRequest(cluster=cluster.address), quiet)


@pytest.mark.slow
def test_a_cached_dlc_that_was_damaged_is_sent_again(cluster: DaskCluster, bundle: Bundle) -> None:
    cluster.add()
    request = SimulateRequest(runtime="cpu", cluster=cluster.address, restart=True)
    whole = values(bundle.path, simulate_bundle(bundle.path, request, quiet))
    (cached,) = cluster.caches()
    content = cached.read_bytes()
    cached.write_bytes(content[:-1])
    assert values(bundle.path, simulate_bundle(bundle.path, request, quiet)) == whole
    assert cached.read_bytes() == content


def test_one_phone_and_this_computer_s_simulator_import_no_dask() -> None:
    code = (
        "import sys, bundler.pipeline.simulate, bundler.pipeline.deploy, bundler.commands.simulate\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('dask', 'distributed')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert done.stdout.strip() == "[]"


def test_read_bundle_is_whole(built: Path) -> None:
    assert read_bundle(built).sample is None
