"""Runs every line of every shell block in README.md and docs/guide.md on virtual phones; the pages list the replaced
texts."""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bundler.bundle import read_bundle
from bundler.cli import main
from bundler.device.server import private_adb_server
from bundler.resources import DEMO_MODEL, DEMO_TOKENIZER
from bundler.runs.record import newest_run
from tests.snippets import QUICK, ROOT, Block, Shell, blocks, commands, phone, sdk_for_virtual_phones, shell
from tests.test_deploy import check_logits
from tests.test_first_light import left_behind

README, GUIDE = ROOT / "README.md", ROOT / "docs" / "guide.md"
FOUND = [*blocks(README), *blocks(GUIDE)]
BLOCKS = {block.heading + (" (tests)" if "pytest" in block.lines[0] else ""): block for block in FOUND}
LEAST_RIGHT = 11
EXIT_CODES = {"csarron/": 4, "--max-p90-ms": 8}
"""What a line with this text ends with, where that is not 0."""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Shell]:
    with shell(tmp_path) as made:
        yield made


def run(shown: Shell, block: Block, stand_ins: dict[str, str]) -> list[str]:
    """Runs a block; returns each line's stdout."""
    said = []
    for line, ours in commands(block, stand_ins):
        done = shown.run(ours)
        expected = next((code for text, code in EXIT_CODES.items() if text in line), 0)
        assert done.returncode == expected, f"{ours}\n{done.stdout}\n{done.stderr}"
        assert done.stdout or expected, ours
        said.append(done.stdout)
    return said


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.slow
def test_see_it_work(here: Shell) -> None:
    block = BLOCKS["See it work"]
    (text,) = block.replaced
    (said,) = run(here, block, {text: ""})
    rows = re.findall(r"│ (yes|no) *$", said, flags=re.MULTILINE)
    assert len(rows) == 12
    assert rows.count("yes") >= LEAST_RIGHT
    assert left_behind(here.folder.parent) == []
    assert [*here.folder.iterdir(), *Path(here.environment["TMPDIR"]).glob("mbqa*")] == []


def test_ci_takes_the_test_command() -> None:
    """Finds it by the marks around it, as .ci/run does."""
    ci = ROOT / ".ci/run"
    if not ci.exists():
        pytest.skip(".ci/ is part of the repository, not of the source distribution")
    (line,) = (line for line in ci.read_text(encoding="utf-8").splitlines() if line.startswith("command="))
    script = f'set -e\n{line}\nprintf %s "$command"'
    found = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (found,) == BLOCKS["Read on (tests)"].lines
    assert all(name in found for name in BLOCKS["Read on (tests)"].replaced)
    assert 'bash -euo pipefail -c "$command"' in ci.read_text(encoding="utf-8")


@pytest.mark.slow
def test_step_by_step(here: Shell) -> None:
    """Uses the simulator: the answers are right, and the logits are the model's."""
    port = str(free_port())
    few = {"mbqa-bundle build": "mbqa-bundle build --limit 4"}
    stand_ins = {"phone start": f"phone start --port {port}", "5555": port} | few
    try:
        said = run(here, BLOCKS["Step by step, without a phone"], stand_ins)
    finally:
        here.run("mbqa-bundle phone stop")
    bundle = read_bundle(here.folder / "bundle")
    written = here.folder / f"bundle/runs/dsp-127.0.0.1_{port}/answers.json"
    assert written.relative_to(here.folder).as_posix() in said[3]
    answers = json.loads(written.read_text(encoding="utf-8"))["answers"]
    truths = {question.id: question.answers or ("",) for question in bundle.questions}
    assert [entry["answer"] in truths[entry["id"]] for entry in answers] == [True] * 4
    newest = newest_run(bundle)
    assert newest is not None
    assert newest.settings.runtime == "dsp"
    check_logits(bundle, newest, DEMO_MODEL)


def with_models(here: Shell, stack: ExitStack) -> dict[str, str]:
    """Makes model.onnx and model.dlc, each with its tokenizer beside it."""
    here.build("--limit", "1")
    shutil.copyfile(here.folder / "bundle/device/model.dlc", here.folder / "model.dlc")
    for folder in (here.folder, here.folder / "my-model-folder"):
        folder.mkdir(exist_ok=True)
        shutil.copyfile(DEMO_MODEL, folder / "model.onnx")
        shutil.copyfile(DEMO_TOKENIZER, folder / "tokenizer.json")
    hub = "csarron/mobilebert-uncased-squad-v2"
    return {"my-model-folder": "my-model-folder", hub: hub, "--check": "--check --calibration-windows 1"}


def with_own_files(here: Shell, stack: ExitStack) -> dict[str, str]:
    with_models(here, stack)
    asked = {"question": "When was it built?", "context": "The bridge was built in 1808.", "answers": ["1808"]}
    (here.folder / "own.json").write_text(json.dumps([asked]), encoding="utf-8")
    return {"dev-v1.1.json": "own.json", "--check": "--check --calibration-windows 1"}


def with_an_sdk(here: Shell, stack: ExitStack) -> dict[str, str]:
    serial = stack.enter_context(phone(here.folder / "phone", QUICK))
    return {"/opt/qairt/2.31.0": str(sdk_for_virtual_phones(here.folder)), "SERIAL": serial}


def with_two_phones(here: Shell, stack: ExitStack) -> dict[str, str]:
    here.build()
    first, second = (stack.enter_context(phone(here.folder / name, QUICK)) for name in ("one", "two"))
    elsewhere = stack.enter_context(private_adb_server())
    elsewhere.find(second)  # connects
    here.environment["ANDROID_SERIAL"] = first
    return {
        "A": first,
        "B": second,
        "lab:5037": f"{elsewhere.host}:{elsewhere.port}",
    }


def with_bundles(here: Shell, stack: ExitStack) -> dict[str, str]:
    """Makes bundle/ and three more of one question, run on a phone's CPU; bench gets a phone that computes nothing."""
    serial = stack.enter_context(phone(here.folder / "phone"))
    here.environment["ANDROID_SERIAL"] = serial
    server = ("--adb-port", here.environment["ANDROID_ADB_SERVER_PORT"])
    for name in ("fp16", "w8a16", "w8a8"):
        out = str(here.folder / name)
        assert main(["build", "--limit", "1", "--precision", name, "--out", out]) == 0
        assert main(["deploy", "--bundle", out, "--device", serial, *server]) == 0
    shutil.copytree(here.folder / "fp16", here.folder / "bundle")
    quick = stack.enter_context(phone(here.folder / "quick", QUICK))
    return {"bench": f"bench --device {quick}", "--cool-down 30": "--cool-down 0"}


def with_texts(here: Shell, stack: ExitStack) -> dict[str, str]:
    """Deploys a bundle to a phone, and writes two texts."""
    here.build("--limit", "1")
    serial = stack.enter_context(phone(here.folder / "phone", QUICK))
    here.environment["ANDROID_SERIAL"] = serial
    server = ("--adb-port", here.environment["ANDROID_ADB_SERVER_PORT"])
    assert main(["deploy", str(here.folder / "bundle"), "--device", serial, *server]) == 0
    (here.folder / "own").mkdir()
    for name in ("bridge", "tower"):
        (here.folder / f"own/{name}.txt").write_text(f"The {name} was built in 1808.", encoding="utf-8")
    (here.folder / "questions.txt").write_text("When was it built?\nWhat was built?\n", encoding="utf-8")
    return {"texts": "own"}


SCENES: dict[str, Callable[[Shell, ExitStack], dict[str, str]]] = {
    "Your own model, at the precision you want": with_models,
    "With a phone": with_an_sdk,
    "With your model and your questions": with_own_files,
    "Many questions, bad cables, several phones": with_two_phones,
    "A question in between": with_texts,
    "How good the answers are": with_bundles,
}


@pytest.mark.slow
@pytest.mark.parametrize("heading", SCENES)
def test_every_line_runs(heading: str, here: Shell) -> None:
    with ExitStack() as stack:
        run(here, BLOCKS[heading], SCENES[heading](here, stack))


def test_no_block_is_left_out() -> None:
    own = {"See it work", "Read on (tests)", "Step by step, without a phone"}
    assert set(BLOCKS) == own | set(SCENES)
    assert len(BLOCKS) == len(FOUND)
