"""Phones of a cluster's hosts: chosen, shared by runs, and lost; on loopback, with an adb server of their own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundler import layout
from bundler.bundle import Bundle
from bundler.device.phone import AdbServer
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.pipeline.deploy import DeployRequest, deploy_bundle
from bundler.pipeline.evaluate import EvaluateRequest, evaluate_bundles
from bundler.pipeline.fetch import FetchRequest, fetch_answers
from bundler.runs.record import Run
from bundler.scheduler.hosts import Hosts
from tests.clusters import DaskCluster, eventually
from tests.deploying import quiet
from tests.test_crew import phones, questions
from tests.test_deploy import logits_of

NOWHERE = AdbServer("127.0.0.1", 9)
TIMEOUT_S = 100.0
pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    pytest.importorskip("distributed")
    (tmp_path / "cluster").mkdir()
    made = DaskCluster(tmp_path / "cluster")
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def forty(request_for: BuildRequest) -> BuildRequest:
    return replace(request_for, questions=questions(40))


@pytest.fixture
def bundle(forty: BuildRequest, tmp_path: Path) -> Bundle:
    return build_bundle(forty, tmp_path / "bundle", quiet)


@pytest.fixture(scope="module")
def alone(forty: BuildRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The logits of one phone at this computer."""
    folder = tmp_path_factory.mktemp("alone")
    bundle = build_bundle(forty, folder / "bundle", quiet)
    with phones(folder, ["run-time:0"]) as ((phone,), server):
        request = DeployRequest(devices=[phone.serial], timeout_s=TIMEOUT_S)
        return logits_of(bundle, deploy_bundle(bundle.path, server, request, quiet))


def same(bundle: Bundle, run: Run, alone: dict[str, np.ndarray]) -> bool:
    logits = logits_of(bundle, run)
    return run.finished and all(np.array_equal(logits[name], alone[name]) for name in alone)


def deploy(bundle: Bundle, cluster: DaskCluster, told: list[str] | None = None, **options: object) -> Run:
    request = DeployRequest(cluster=cluster.address, timeout_s=TIMEOUT_S, **options)  # type: ignore[arg-type]
    said = [] if told is None else told
    return deploy_bundle(bundle.path, NOWHERE, request, quiet, None, said.append)


def offered(cluster: DaskCluster, *names: str) -> None:
    """Waits until the cluster has exactly these phones."""
    hosts = Hosts(cluster.address, lambda _: None)
    try:
        eventually(lambda: {phone.name for phone in hosts.phones()} == set(names))
    finally:
        hosts.close()


@contextmanager
def client(bundle: Path, cluster: DaskCluster, *options: str) -> "Iterator[subprocess.Popen[str]]":
    """The command in a process of its own, its run once it has some logits."""
    command = [
        sys.executable, "-m", "bundler.cli", "deploy", str(bundle), "--cluster", cluster.address, "--chunk", "2", *options
    ]  # fmt: skip
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: bool(kept(bundle)) or running.poll() is not None)
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
        again = deploy(bundle, cluster, restart=True, phones=1)
        assert same(bundle, again, alone)
        assert len(again.parts) == 1
    fetched = fetch_answers(bundle.path, NOWHERE, FetchRequest(), quiet)
    assert len(list(fetched.answered())) == 40
    document = evaluate_bundles(EvaluateRequest(bundles=[bundle.path]), quiet).document
    assert document["runs"][0]["phones"][0]["name"] in names
