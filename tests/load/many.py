"""Tests very many questions, end to end: build, deploy, fetch-answers as a user types them."""

import json
from dataclasses import dataclass
from pathlib import Path

from bundler.bundle import read_bundle
from bundler.device.server import private_adb_server
from bundler.runs.record import newest_run
from tests.load.commands import Ran, command
from tests.load.material import FAST, phone_of, write_squad, wrong_windows


@dataclass(frozen=True)
class Many:
    """`answers` is the number for `questions` in `windows`; `wrong` windows have logits of other inputs, `strange`
    answers are no slices of their texts, or in the wrong place."""

    questions: int
    windows: int
    answers: int
    wrong: int
    strange: int
    steps: dict[str, Ran]

    @property
    def failures(self) -> list[str]:
        told = []
        if self.answers != self.questions:
            told.append(f"{self.answers} answers to {self.questions} questions")
        if self.wrong:
            told.append(f"{self.wrong} windows have the logits of others")
        if self.strange:
            told.append(f"{self.strange} answers are not slices of their texts, or stand in another's place")
        return told

    @property
    def lines(self) -> list[str]:
        steps = [
            f"  {name:14} {ran.seconds:7.1f} s, peak RSS {ran.peak_bytes / 1e6:6.0f} MB"
            for name, ran in self.steps.items()
        ]
        return [f"{self.questions} questions in {self.windows} windows:", *steps]


def ask_many(folder: Path, count: int) -> Many:
    """Runs all steps on a phone whose snpe-net-run takes no time."""
    squad, out = folder / "questions.json", folder / "bundle"
    write_squad(squad, count)
    with phone_of(folder / "phone", FAST) as phone, private_adb_server() as server:
        at = ("--bundle", str(out), "--device", phone.serial)
        steps = {
            "build": command("build", "--questions", str(squad), "--out", str(out), "--converter", "built-in"),
            "deploy": command("deploy", *at, adb_port=server.port),
            "fetch-answers": command("fetch-answers", *at, adb_port=server.port),
        }
    bundle = read_bundle(out)
    run = newest_run(bundle)
    assert run is not None
    answers = steps["fetch-answers"].document["answers"]
    kept = json.loads((run.folder(out) / "answers.json").read_text(encoding="utf-8"))["answers"]
    strange = sum(
        answer["id"] != question.id or question.context[answer["start"] : answer["end"]] != answer["answer"]
        for answer, question in zip(kept, bundle.questions, strict=True)
        if answer["answer"]
    )
    wrong = len(wrong_windows(bundle, run))
    return Many(len(bundle.questions), len(bundle.manifest.windows), len(answers), wrong, strange, steps)
