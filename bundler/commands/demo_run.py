"""Runs the demo in a temporary folder, with a temporary virtual phone and adb server.

Uses 8 bits: every chip with a simulator supports them, and it computes them several times as fast as float16.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundler import layout
from bundler.device.server import private_adb_server
from bundler.model.make import Recipe
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.pipeline.deploy import DeployRequest, deploy_bundle
from bundler.pipeline.fetch import FetchRequest, fetch_answers
from bundler.qa.questions import read_squad
from bundler.resources import DEMO_MODEL, DEMO_QUESTIONS, DEMO_TOKENIZER
from bundler.soc import Soc
from bundler.types import Answer, Progress, Question, Runtime
from bundler.virtual.phones import VirtualPhone, start_phone, stop_phone

RUN_S = 600.0


@dataclass(frozen=True)
class Row:
    """A question with both runtimes' answers."""

    question: Question
    dsp: Answer
    cpu: Answer

    @property
    def right(self) -> bool:
        """Returns whether both answers equal a known one; without known answers, "no answer" is right."""
        truths = self.question.answers or ("",)
        return self.dsp.text in truths and self.cpu.text in truths


def take_tour(soc: Soc, progress: Progress) -> list[Row]:
    """Builds the demo's bundle, runs it on a virtual phone's DSP and CPU, and returns both answers to each question."""
    with tempfile.TemporaryDirectory(prefix="mbqa-demo-") as folder, private_adb_server() as server:
        bundle = Path(folder) / layout.DEFAULT_BUNDLE
        request = BuildRequest(
            questions=read_squad(DEMO_QUESTIONS),
            model=DEMO_MODEL,
            tokenizer=DEMO_TOKENIZER,
            soc=soc,
            recipe=Recipe("w8a8", converter="built-in"),
        )
        built = build_bundle(request, bundle, progress)
        with _virtual_phone(soc, Path(folder) / "phone") as phone:
            answers: dict[Runtime, tuple[Answer, ...]] = {}
            runtimes: tuple[Runtime, ...] = ("dsp", "cpu")
            for runtime in runtimes:
                deploy_bundle(
                    bundle, server, DeployRequest(runtime=runtime, devices=[phone.serial], timeout_s=RUN_S), progress
                )
                fetched = fetch_answers(bundle, server, FetchRequest(runtime=runtime), progress)
                answers[runtime] = tuple(answer for _, answer in fetched.answered())
        return [Row(*row) for row in zip(built.questions, answers["dsp"], answers["cpu"], strict=True)]


@contextmanager
def _virtual_phone(soc: Soc, state: Path) -> Iterator[VirtualPhone]:
    phone = start_phone(soc, 0, state)
    try:
        yield phone
    finally:
        stop_phone(phone)
