"""Tests that a run's folder has one owner on this machine: a second command names it, or waits."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bundler import layout
from bundler.bundle import Bundle
from bundler.device.limits import Limit
from bundler.device.phone import Phone
from bundler.errors import HostStorageFailed, RunInUse, TimeUp
from bundler.runs.owner import owning
from tests.deploying import deploy, fetch

HOLD = """
import sys
from pathlib import Path
from bundler.runs.owner import owning
with owning(Path(sys.argv[1]), "deploy"):
    print("mine", flush=True)
    sys.stdin.read()
"""


def test_the_second_says_who_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "cpu-A"
    with owning(folder, "deploy"):
        with pytest.raises(RunInUse) as caught, owning(folder, "deploy"):
            pass
        with owning(tmp_path / "runs" / "cpu-B", "deploy"):  # of another phone
            pass
    assert str(caught.value) == f"{folder}: `mbqa-bundle deploy` (process {os.getpid()}) works on this run"
    assert caught.value.exit_code == 5
    with owning(folder, "deploy"):
        pass


def test_a_process_that_died_owns_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "cpu-A"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"mine\n"
        with pytest.raises(RunInUse, match=f"process {other.pid}"), owning(folder, "deploy"):
            pass
        waits = pytest.raises(TimeUp, match=r"waiting for `mbqa-bundle deploy` \(process")
        with waits, owning(folder, "fetch-answers", Limit(0.5)):
            pass
        other.kill()
    with owning(folder, "deploy"):
        pass


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("no folder")
    with pytest.raises(HostStorageFailed), owning(tmp_path / "runs" / "cpu-A", "deploy"):
        pass


@pytest.mark.slow
def test_two_deploys_at_once_and_an_answer_that_waits(phone: Phone, bundle: Bundle) -> None:
    """The second deploy is refused before it changes the run; fetch-answers waits for the end of the first one."""
    folder = layout.run_folder(bundle.path, "cpu", [phone.serial])
    begun, may_end = threading.Event(), threading.Event()

    def progress(stage: str, done: int, total: int | None, /) -> None:
        if stage.startswith("running on"):
            begun.set()
            may_end.wait(60)

    first = threading.Thread(target=deploy, args=(phone, bundle), kwargs={"progress": progress, "chunk": 1})
    first.start()
    try:
        assert begun.wait(60)
        with pytest.raises(RunInUse, match="mbqa-bundle deploy"):
            deploy(phone, bundle)
        assert (folder / layout.RUN).exists()
        threading.Timer(1.0, may_end.set).start()
        since = time.monotonic()
        outcome = fetch(phone, bundle)
        assert time.monotonic() - since > 0.5
    finally:
        may_end.set()
        first.join(60)
    assert outcome.run.finished
    assert len(outcome.answers) == 3
