"""Tests that imports are late, by counting modules, because time depends on the machine."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from bundler import layout
from bundler.bundle import Bundle
from bundler.cli import _application
from bundler.commands.options import app
from bundler.qa.features import load_tokenizer
from tests.phones import virtual_phone

LIMIT_S = 240
BARE = """
import sys, typer
app = typer.Typer()
@app.command()
def greet(name: str) -> None:
    "Say hello."
try:
    app(["--help"])
except SystemExit as ended:
    assert ended.code == 0
"""
OURS = "import sys\nfrom bundler.cli import main\nassert main({argv}) == 0\n"
OWN = {"cli", "commands", "console", "engines", "errors", "layout", "resources", "soc", "types", "virtual.faults"}
"""What `--help` takes of the package itself."""
HEAVY = {"adbutils", "jinja2", "numpy", "onnx", "onnxruntime", "tokenizers", "torch", "transformers"}
APART = {"onnx", "onnxruntime", "requests", "torch", "transformers"}
"""A deploy and a question to a phone import none of these."""
REFUSING = """
import sys
from importlib.abc import MetaPathFinder
asked = []
class Refusing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "adbutils"):
            asked.append(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refusing())
from bundler.cli import main
assert main(sys.argv[1:]) == 0
assert asked == [], asked
"""


def loaded(code: str) -> set[str]:
    """Returns the modules loaded by a separate process that runs the code."""
    command = [sys.executable, "-c", f"{code}\nprint(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.fixture(scope="module")
def bare() -> set[str]:
    """Returns the modules for the help of a Typer application with one command."""
    return loaded(BARE)


def test_help_imports_what_typer_does_and_little_of_our_own(bare: set[str]) -> None:
    modules = loaded(OURS.format(argv=["--help"]))
    added = {name for name in modules - bare if name.partition(".")[0] != "bundler"}
    assert added == set()
    own = {name.removeprefix("bundler.") for name in modules if name.startswith("bundler.")} - {"virtual"}
    assert {name if name in OWN else name.partition(".")[0] for name in own} == OWN


def test_version_does_without_what_draws_help(bare: set[str]) -> None:
    modules = loaded(OURS.format(argv=["--version"]))
    assert {name for name in modules - bare if name.partition(".")[0] != "bundler"} == set()
    assert {name.partition(".")[0] for name in modules} & {"rich", "markdown_it", "pygments"} == set()


@pytest.mark.parametrize(
    "command", ["build", "deploy", "ask", "fetch-answers", "evaluate", "phone start", "demo", "try"]
)
def test_the_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    modules = loaded(OURS.format(argv=[*command.split(), "--help"]))
    assert {name.partition(".")[0] for name in modules} & HEAVY == set()


@pytest.mark.slow
def test_a_deploy_and_a_question_import_what_they_use(bundle: Bundle, tmp_path: Path) -> None:
    with virtual_phone(tmp_path / "phone", faults=["run-time:0"]) as phone:
        where = ["--bundle", str(bundle.path), "--device", phone.serial, "--adb-port", str(phone.server.port)]
        deploy, ask = (
            {name.partition(".")[0] for name in loaded(OURS.format(argv=[*words, *where]))}
            for words in (["deploy"], ["ask", "When?", "--context", "It was built in 1808."])
        )
    assert deploy & {*APART, "jinja2", "regex", "tokenizers"} == set()
    assert ask & APART == set()


@pytest.mark.slow
@pytest.mark.parametrize("tokenizer", ["demo", "tokenizer.json", "vocab.txt"])
def test_build_without_a_hub_model_needs_neither_torch_nor_transformers_nor_adb(
    tokenizer: str, tmp_path: Path, model_folder: Path
) -> None:
    argv = ["build", "--limit", "1"]
    if tokenizer != "demo":
        questions = [{"id": "a", "question": "When was it built?", "context": "It was built in 1808."}]
        (tmp_path / "asked.jsonl").write_text("".join(json.dumps(each) for each in questions), encoding="utf-8")
        made = tmp_path / tokenizer
        if tokenizer == "tokenizer.json":
            load_tokenizer(model_folder / "vocab.txt").save(str(made))
        else:
            made.write_bytes((model_folder / "vocab.txt").read_bytes())
        model = str(model_folder / "model.onnx")
        argv += ["--model", model, "--tokenizer", str(made), "--questions", str(tmp_path / "asked.jsonl")]
    command = [sys.executable, "-c", REFUSING, *argv]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / layout.DEFAULT_BUNDLE / layout.DEVICE / layout.MODEL).is_file()


def test_parameters_are_read_of_the_command_that_is_typed() -> None:
    groups: list[Any] = [get_command(made) for made in (_application(["deploy", "x"]), app)]
    known, every = (group.commands for group in groups)
    assert known.keys() == every.keys()
    assert {name: command.help for name, command in known.items()} == {name: each.help for name, each in every.items()}
    assert {name for name, command in known.items() if command.params} == {"deploy"}
    assert len(known["deploy"].params) == len(every["deploy"].params)
