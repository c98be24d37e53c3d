"""Tests the names in `import bundler`, and the script of docs/library.md."""

import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

import bundler
from bundler import pipeline
from bundler.resources import DEMO_MODEL, DEMO_QUESTIONS, DEMO_TOKENIZER
from tests.phones import virtual_phone

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/library.md").read_text(encoding="utf-8")
LIMIT_S = 240
PUBLIC = [
    "AdbServer", "BuildRequest", "BundlerError", "DeployRequest", "EvaluateRequest", "FetchRequest", "Recipe",
    "build_bundle", "deploy_bundle", "evaluate_bundles", "fetch_answers", "open_questions",
]  # fmt: skip


def test_the_public_names() -> None:
    assert bundler.__all__ == PUBLIC  # type: ignore[attr-defined]
    for name in PUBLIC:
        assert getattr(bundler, name).__doc__, name
        assert f"`{name}" in PAGE, name
    stub = (ROOT / "bundler/__init__.pyi").read_text(encoding="utf-8")
    assert sorted(re.findall(r" as (\w+)", stub)) == sorted(PUBLIC)


def test_other_names_are_none() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bundler.nothing  # type: ignore[attr-defined]


def test_requests_take_keywords_only() -> None:
    modules = [import_module(each.name) for each in iter_modules(pipeline.__path__, f"{pipeline.__name__}.")]
    requests = {value for each in modules for name, value in vars(each).items() if name.endswith("Request")}
    assert len(requests) >= 7
    for each in requests:
        with pytest.raises(TypeError, match="positional argument"):
            each(())


@pytest.mark.slow
def test_the_pages_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (script,) = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    for source, name in (
        (DEMO_MODEL, "mobilebert.onnx"), (DEMO_TOKENIZER, "tokenizer.json"), (DEMO_QUESTIONS, "questions.json"),
    ):  # fmt: skip
        shutil.copyfile(source, tmp_path / name)
    with virtual_phone(tmp_path / "phone", faults=["run-time:0"]) as phone:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(phone.server.port))
        command = [sys.executable, "-c", script.replace("SERIAL", phone.serial)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert (len(lines), lines[-1]) == (13, "dsp")
