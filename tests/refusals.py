"""Checks that commands are refused: in two lines, with an exit code, without changes in the current folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.cli import main
from tests.models import write_vocabulary

ASKED = ("--question", "When was it built?", "--context", "The bridge was built in 1808.")
Refusal = Callable[..., str]


def build(model: Path | str, *options: str) -> tuple[str, ...]:
    """Returns a command line that builds one question with the model."""
    return ("build", "--model", str(model), *ASKED, *options)


def isolate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes `folder` the current one, empty except for a vocabulary; hides other SDKs and the hub."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("SNPE_ROOT", "QAIRT_SDK_ROOT", "QNN_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MBQA_SDK_CACHE", str(folder.parent / "sdks"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    write_vocabulary(folder)
    return folder


def refusal(capfd: pytest.CaptureFixture[str], code: int, said: str, *argv: str) -> str:
    """Runs a command that must end with `code`, an error line with `said`, and no trace; returns error and hint."""
    before = sorted(Path.cwd().rglob("*"))
    capfd.readouterr()
    assert main(argv) == code
    shown = capfd.readouterr()
    lines = [line for line in shown.err.splitlines() if line.startswith(("error: ", "hint: "))]
    assert [line.split(": ")[0] for line in lines] == ["error", "hint"], shown.err
    assert said in lines[0]
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert sorted(Path.cwd().rglob("*")) == before
    return "\n".join(lines)
