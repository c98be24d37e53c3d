"""Makes questions, bundles and phones for the load, and the expected results of the fast snpe-net-run."""

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundler import layout
from bundler.bundle import Bundle
from bundler.device.chunks import chunks_of
from bundler.device.outputs import load
from bundler.model.make import Recipe
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.resources import DEMO_MODEL, DEMO_TOKENIZER
from bundler.runs.record import Run
from bundler.soc import DEFAULT, known_socs
from bundler.types import Question, QuestionSet
from bundler.virtual.phones import VirtualPhone, start_phone, stop_phone
from tests.deploying import quiet

FAST = "run-time:0"
WORDS = ("the", "bridge", "was", "built", "in", "year", "of", "a", "tower", "river", "town", "museum", "by", "and")
PASSAGE_WORDS = (40, 160)
ASKED_A_PASSAGE = 5
SEED = 6


def write_squad(path: Path, count: int) -> None:
    """Writes synthetic questions, each with a different text, as SQuAD v1.1 JSON."""
    drawn = random.Random(SEED)
    paragraphs = []
    for first in range(0, count, ASKED_A_PASSAGE):
        words = " ".join(drawn.choices(WORDS, k=drawn.randint(*PASSAGE_WORDS)))
        context = f"Bridge {first} was built in {1000 + first}. {words}."
        asked = [
            {"id": f"q{number}", "question": f"When was bridge {first} built, {number}?", "answers": []}
            for number in range(first, min(first + ASKED_A_PASSAGE, count))
        ]
        paragraphs.append({"context": context, "qas": asked})
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "", "paragraphs": paragraphs}]}), "utf-8")


def demo_bundle(out: Path, questions: Sequence[Question]) -> Bundle:
    """Builds a bundle of the demo model with these questions."""

    request = BuildRequest(
        questions=QuestionSet(tuple(questions), may_be_unanswerable=False),
        model=DEMO_MODEL, tokenizer=DEMO_TOKENIZER, soc=known_socs()[DEFAULT],
        recipe=Recipe("fp32", converter="built-in"),
    )  # fmt: skip
    return build_bundle(request, out, quiet)


@contextmanager
def phone_of(state: Path, *faults: str) -> Iterator[VirtualPhone]:
    """Provides a virtual phone."""
    phone = start_phone(known_socs()[DEFAULT], 0, state, faults=faults)
    try:
        yield phone
    finally:
        stop_phone(phone)


def wrong_windows(bundle: Bundle, run: Run) -> list[int]:
    """Returns the windows whose logits in the run's folder differ from those that `run-time` makes of their inputs."""
    manifest, wrong = bundle.manifest, []
    for chunk in chunks_of(len(manifest.windows), run.settings.chunk):
        logits = load(run.folder(bundle.path), chunk, manifest.outputs)
        for line, window in enumerate(manifest.windows[chunk.start : chunk.stop]):
            raws = [(bundle.path / layout.DEVICE / path).read_bytes() for path in window.inputs.values()]
            if any(not np.array_equal(logits[name][line].reshape(-1), _made_of(name, raws)) for name in window.outputs):
                wrong.append(window.line)
    return wrong


def _made_of(name: str, raws: Sequence[bytes]) -> npt.NDArray[np.float32]:
    """Returns an output as described in bundler/virtual/net_timed.py: (values,) of a sixteenth each, around zero."""
    count = max(len(raw) for raw in raws) // 4
    noise = hashlib.shake_128(name.encode() + hashlib.sha256(b"".join(raws)).digest()).digest(count)
    return np.array([byte / 16 - 8 for byte in noise], np.float32)
