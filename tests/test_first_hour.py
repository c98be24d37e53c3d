"""Runs the commands of docs/with-a-phone.md: from Qualcomm's SDK to the first answer, by both engines.

Uses an empty home, a local server instead of Qualcomm's, and the phone of genuine parts. tests/test_transcripts.py runs
the page on a virtual phone.
"""

import json
from pathlib import Path

import pytest

from bundler.qa.questions import read_squad
from bundler.resources import DEMO_QUESTIONS
from tests.phones import STAND_INS, genuine_phone, why_no_genuine_phone
from tests.sdk_server import VERSION, sdk_server
from tests.snippets import ROOT, Shell, archive_for_virtual_phones, blocks, shell

PAGE = ROOT / "docs" / "with-a-phone.md"
STEPS = ("2. Get what a phone needs", "3. Try the phone", "4. Build, deploy, fetch")
GET = "mbqa-bundle sdk get"
BY_SNPE = ("mbqa-bundle deploy --runtime dsp --engine snpe --verify", "mbqa-bundle fetch-answers")
TRY = "mbqa-bundle try --yes"


def typed() -> list[str]:
    """Returns the page's commands, and the run by the other engine."""
    found = [
        line for block in blocks(PAGE) if block.heading in STEPS and block.kind == "console" for line in block.lines
    ]
    return [*(line.removeprefix("$ ") for line in found if line.startswith("$ ")), *BY_SNPE]


def test_the_page_has_the_commands() -> None:
    words = [line.split()[1] for line in typed()]
    assert words == ["sdk", "try", "doctor", "build", "deploy", "fetch-answers", "deploy", "fetch-answers"]
    assert TRY in typed()


def twelve_by(here: Shell, engine: str) -> list[str]:
    """Returns the answers of the phone's DSP to the demo's twelve questions, by an engine; in 8 bits, for speed."""
    if not (here.folder / "twelve").exists():
        assert here.run("mbqa-bundle build --precision w8a8 --soc SM8650 --out twelve").returncode == 0
    for line in (f"deploy twelve --runtime dsp --engine {engine}", "fetch-answers twelve"):
        done = here.run(f"mbqa-bundle {line}")
        assert done.returncode == 0, done.stderr
    (path,) = here.folder.glob("twelve/runs/dsp-*/answers.json")
    return [each["answer"] for each in json.loads(path.read_text(encoding="utf-8"))["answers"]]


@pytest.mark.slow
@pytest.mark.genuine
def test_the_first_hour(tmp_path: Path) -> None:
    if reason := why_no_genuine_phone():
        pytest.skip(reason)
    archive = archive_for_virtual_phones(tmp_path, {name: script.encode() for name, script in STAND_INS.items()})
    with genuine_phone() as phone, sdk_server(archive) as server, shell(tmp_path) as here:
        here.environment |= {"MBQA_SDK_MIRROR": server.mirror, "MBQA_SDK_CACHE": str(tmp_path / "sdk")}
        here.run(f"adb connect {phone.serial}")
        said = []
        for line in typed():
            done = here.run(line.replace(GET, f"{GET} {VERSION}"))
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            said.append(done.stdout)
        found = {engine: twelve_by(here, engine) for engine in ("snpe", "qnn")}
        answers = json.loads(next(here.folder.glob("bundle/runs/*/answers.json")).read_text(encoding="utf-8"))
    truths = [set(question.answers or ("",)) for question in read_squad(DEMO_QUESTIONS)]
    assert len(truths) == 12
    for twelve in found.values():
        assert [text in truth for text, truth in zip(twelve, truths, strict=True)] == [True] * 12
    assert [" by qnn-net-run " in text for text in said[-4::2]] == [True, False]
    assert [" by snpe-net-run " in text for text in said[-4::2]] == [False, True]
    assert all("1863" in text for text in said[-3::2])
    assert answers["answers"][0]["answer"] == "1863"
    assert "6 of 6 runs worked" in said[1]
    assert (here.folder / "report.zip").is_file()
