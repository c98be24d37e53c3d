"""Contains shared fixtures: a small model with its vocabulary, a bundle of it, and phones."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, settings

from bundler.bundle import Bundle, read_bundle
from bundler.device.phone import AdbServer, Phone
from bundler.dlc.child import cores
from bundler.model.make import Recipe
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.soc import DEFAULT, known_socs
from bundler.types import Question, QuestionSet
from tests.deploying import quiet
from tests.models import qa_model, write_vocabulary
from tests.phones import BUILD_S, WORKER, build_genuine_parts, genuine_phone, virtual_phone, why_no_genuine_phone

settings.register_profile(  # a busy machine is no defect; .ci/run's failures are of the change, not of luck
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("patient")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests press Ctrl-C, also where nohup ignores it

QUESTIONS = (
    Question(
        "when-built", "When was the bridge built?", "The bridge was built in 1808. It is an old bridge.", "Bridge"
    ),
    Question("who", "Who built the tower?", "A tower 👩‍🚀 of 橋 and cafe\u0301, built by who?"),
    Question("long", "How many?", "the museum river tower " * 150),
)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Sets a cache folder that all workers share, instead of the user's."""
    base = tmp_path_factory.getbasetemp()
    os.environ["XDG_CACHE_HOME"] = str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with model.onnx and its vocab.txt."""
    folder = tmp_path_factory.mktemp("model")
    made = qa_model()
    made.producer_name = f"worker{WORKER}"  # phones of genuine parts see one another's processes, and job.sh ends what
    onnx.save(made, folder / "model.onnx")  # its bundle left running: so each worker has a bundle of its own
    write_vocabulary(folder)
    return folder


@pytest.fixture(scope="session")
def request_for(model_folder: Path) -> BuildRequest:
    return BuildRequest(
        questions=QuestionSet(QUESTIONS, may_be_unanswerable=False),
        model=model_folder / "model.onnx",
        tokenizer=model_folder / "vocab.txt",
        soc=known_socs()[DEFAULT],
        recipe=Recipe("fp32", converter="built-in"),
    )


@pytest.fixture(scope="session")
def built(request_for: BuildRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a small bundle of three questions in four windows; tests must not change it."""
    return build_bundle(request_for, tmp_path_factory.mktemp("built") / "bundle", quiet).path


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Bundle:
    """Returns a copy of that bundle, which a test may change."""
    return read_bundle(Path(shutil.copytree(built, tmp_path / "bundle")))


LONGEST = (
    "test_precisions", "test_full_size", "test_benchmarks", "test_simulate", "test_readme", "test_transcripts",
    "test_first_hour", "test_hosts", "test_recovery", "test_deploy", "test_equalize", "test_evaluate",
    "test_build_options", "test_field_trial", "test_recovery_genuine", "test_crew", "test_kin",
)  # fmt: skip
"""The files that take longest. They begin first, or a worker would be at one of them when all others are done."""


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # xdist would begin with the files of the most tests


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Makes `-n auto` three workers for two cores: a test with a phone waits for a quarter of its time."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else cores() * 3 // 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds the genuine phone's parts while tests that do not need it run."""
    wanted = any(item.get_closest_marker("genuine") for item in session.items)
    if wanted and WORKER == 0 and not session.config.option.collectonly and why_no_genuine_phone() is None:
        session.config.stash[BUILDING] = build_genuine_parts()


def pytest_sessionfinish(session: pytest.Session) -> None:
    building = session.config.stash.get(BUILDING, None)
    if building is not None:
        building.wait(BUILD_S)


BUILDING = pytest.StashKey[subprocess.Popen[bytes]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", metavar="SERIAL", help="test this phone; its mbqa folder is removed")


@pytest.fixture(scope="module", params=["virtual", pytest.param("genuine", marks=pytest.mark.genuine)])
def phone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    """Returns a phone, first a virtual one and then one of genuine parts, so that both keep the same contract.

    With --device, the phone with that serial replaces both.
    """
    if serial := request.config.getoption("--device"):
        if request.param == "genuine":
            pytest.skip("--device names a phone")
        yield AdbServer.at().find(serial)
        return
    if request.param == "virtual":
        with virtual_phone(tmp_path_factory.mktemp("phone")) as made:
            yield made
        return
    reason = why_no_genuine_phone()
    if reason:
        pytest.skip(reason)
    with genuine_phone() as made:
        yield made


@pytest.fixture
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets an empty current folder, a new state folder, and no variables that would choose a phone or an SDK."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("MBQA_SDK_CACHE", str(tmp_path / "sdks"))
    monkeypatch.setenv("COLUMNS", "250")
    for name in ("SNPE_ROOT", "QAIRT_SDK_ROOT", "QNN_SDK_ROOT", "ANDROID_SERIAL"):
        monkeypatch.delenv(name, raising=False)
