"""Tests the main task on real input: a stopped demo, the README's steps on the phone of genuine parts, real text.

The demo and the steps on a virtual phone are in test_readme.py.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bundler import layout
from bundler.bundle import read_bundle
from bundler.cli import main
from bundler.device.phone import Phone
from bundler.resources import DEMO_MODEL
from bundler.runs.record import newest_run
from bundler.types import Runtime
from tests.test_deploy import check_logits

XQUAD = Path(__file__).resolve().parents[2] / "shared/data/xquad.en.json"
LEAST_RIGHT = 11
LIMIT_S = 60


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sets an empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capfd: pytest.CaptureFixture[str], *argv: str) -> Any:
    """Runs a command with --json; returns its document."""
    capfd.readouterr()
    assert main([*argv, "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def at(phone: Phone) -> tuple[str, ...]:
    return ("--adb-host", phone.server.host, "--adb-port", str(phone.server.port), "--device", phone.serial)


def left_behind(folder: Path) -> list[str]:
    """Returns command lines of processes that contain `folder`."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ends meanwhile
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in lines if str(folder) in line]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_demo_that_is_stopped_leaves_nothing(number: signal.Signals, here: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(here)}
    command = [sys.executable, "-m", "bundler.cli", "demo"]
    demo = subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # noqa: PLW1509  (CI may run with SIGINT ignored)
    )
    deadline = threading.Timer(LIMIT_S, demo.kill)
    deadline.start()
    assert demo.stderr is not None
    with demo.stderr:
        assert any("running on the DSP" in line for line in demo.stderr)
        demo.send_signal(number)
        demo.stderr.read()
    deadline.cancel()
    assert demo.wait(LIMIT_S) in (128 + signal.SIGTERM, 130)
    assert list(here.iterdir()) == []
    assert left_behind(here) == []


@pytest.mark.slow
@pytest.mark.parametrize("phone", [pytest.param("genuine", marks=pytest.mark.genuine)], indirect=True)
@pytest.mark.parametrize("runtime", ["dsp", "cpu"])
def test_the_readmes_steps(runtime: Runtime, capfd: pytest.CaptureFixture[str], here: Path, phone: Phone) -> None:
    """Uses four questions for the DSP, whose simulator takes seconds for each."""
    count = 12 if runtime == "cpu" else 4
    assert run(capfd, "build", "--precision", "fp32", "--limit", str(count))["questions"] == count
    assert run(capfd, "deploy", "--runtime", runtime, *at(phone))["parts"][0]["windows"] == {runtime: count}
    document = run(capfd, "fetch-answers", *at(phone))
    bundle = read_bundle(here / layout.DEFAULT_BUNDLE)
    truths = {question.id: question.answers or ("",) for question in bundle.questions}
    assert sum(entry["answer"] in truths[entry["id"]] for entry in document["answers"]) >= min(LEAST_RIGHT, count)
    assert document["runtime"] == runtime
    newest = newest_run(bundle)
    assert newest is not None
    check_logits(bundle, newest, DEMO_MODEL)


@pytest.mark.slow
def test_real_text(capfd: pytest.CaptureFixture[str], here: Path, phone: Phone) -> None:
    if not XQUAD.exists():
        pytest.skip(f"{XQUAD} is not there")
    assert run(capfd, "build", "--questions", str(XQUAD), "--limit", "20")["questions"] == 20
    run(capfd, "deploy", "--runtime", "cpu", *at(phone))
    answers = run(capfd, "fetch-answers", *at(phone))["answers"]
    questions = read_bundle(here / layout.DEFAULT_BUNDLE).questions
    assert [entry["id"] for entry in answers] == [question.id for question in questions]
    for entry, question in zip(answers, questions, strict=True):
        assert entry["answer"]
        assert entry["answer"] == question.context[entry["start"] : entry["end"]]
        assert 0 < entry["confidence"] <= 1
