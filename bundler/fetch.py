"""A run's outputs from the phone, and the answers in them."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundler import layout
from bundler.bundle import Bundle, read_bundle, sha256_of, writing
from bundler.device.job import list_outputs, pull_outputs
from bundler.device.phone import AdbServer, Phone
from bundler.errors import OutputsInvalid
from bundler.model.sources import OUTPUTS
from bundler.qa.spans import WindowLogits, decode
from bundler.run import Run, newest_run
from bundler.types import Answer, Progress, Runtime

SCHEMA = 1
START, END = OUTPUTS


@dataclass(frozen=True)
class Fetched:
    """A run's answers in the order of the questions, and the file they were written to."""

    bundle: Bundle
    run: Run
    answers: tuple[Answer, ...]
    path: Path


def fetch_answers(
    path: Path, *, server: AdbServer, serial: str | None, runtime: Runtime | None, progress: Progress
) -> Fetched:
    """Pulls the newest run's outputs, checks and decodes them, and writes answers.json into the run's folder.

    Raises:
        InputError: there is no such bundle or run; PhoneError; OutputsInvalid
    """
    progress("checking the bundle", 0, None)
    bundle = read_bundle(path)
    run = newest_run(bundle, runtime, serial)
    phone = server.find(run.serial)
    progress("pulling the outputs", 0, None)
    outputs = pull_run(phone, bundle, run)
    progress("decoding the answers", 0, None)
    answers = decode_answers(bundle, outputs)
    target = run.folder(path) / layout.ANSWERS
    with writing(target) as draft:
        document = answers_document(bundle, run, answers)
        draft.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Fetched(bundle, run, answers, target)


def pull_run(phone: Phone, bundle: Bundle, run: Run) -> Path:
    """Brings every output that the manifest names, checked by its SHA-256, to the run's folder; returns that folder.

    Raises:
        OutputsInvalid: one is missing, short, or changed on the way
    """
    folder = run.folder(bundle.path) / layout.OUTPUT
    made = list_outputs(phone, run.remote_folder, run.runtime)
    sizes = {4 * int(np.prod(spec.shape)) for spec in bundle.manifest.outputs}
    wanted: dict[str, Path] = {}
    for name in (name for window in bundle.manifest.windows for name in window.outputs.values()):
        there = next((alias for alias in layout.result_aliases(name) if alias in made), None)
        if there is None:
            raise OutputsInvalid(f"phone {phone.serial}: output {name} of the run on the {run.runtime} is missing")
        wanted[there] = folder / name
        wanted[there].unlink(missing_ok=True)
    archive = run.folder(bundle.path) / ".outputs.tar"
    try:
        pull_outputs(phone, run.remote_folder, run.runtime, wanted, max(sizes), archive)
    finally:
        archive.unlink(missing_ok=True)
    for there, place in wanted.items():
        if not place.exists() or sha256_of(place) != made[there]:
            place.unlink(missing_ok=True)
            raise OutputsInvalid(f"{place}: arrived damaged: its SHA-256 is not the one made on the phone")
    return folder


def decode_answers(bundle: Bundle, outputs: Path) -> tuple[Answer, ...]:
    """The answer to each question from the raw outputs in the folder `outputs`, in the order of the questions.

    Raises:
        OutputsInvalid: an output is missing, of another size, or not finite
    """
    by_question: defaultdict[str, list[WindowLogits]] = defaultdict(list)
    for window in bundle.manifest.windows:
        logits = dict(_read_logits(bundle, outputs, window.outputs))
        offsets = bundle.offsets[window.line]
        by_question[window.question_id].append(WindowLogits(window.key, offsets, logits[START], logits[END]))
    manifest = bundle.manifest
    return tuple(
        decode(
            question,
            by_question[question.id],
            max_tokens=manifest.max_answer_tokens,
            may_be_unanswerable=manifest.may_be_unanswerable,
        )
        for question in bundle.questions
    )


def _read_logits(
    bundle: Bundle, outputs: Path, names: Mapping[str, str]
) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    for spec in bundle.manifest.outputs:
        path = outputs / names[spec.name]
        count = int(np.prod(spec.shape))
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise OutputsInvalid(f"{path}: cannot be read: {error.strerror}") from error
        if len(raw) != 4 * count:
            raise OutputsInvalid(f"{path}: has {len(raw)} bytes, not {4 * count} ({count} float32 values)")
        values = np.frombuffer(raw, "<f4").astype(np.float32)
        if not np.isfinite(values).all():
            at = int(np.flatnonzero(~np.isfinite(values))[0])
            raise OutputsInvalid(f"{path}: value {at} is {values[at]}, not a finite number")
        yield spec.name, values


def answers_document(bundle: Bundle, run: Run, answers: tuple[Answer, ...]) -> dict[str, object]:
    """What answers.json holds."""
    questions = {question.id: question for question in bundle.questions}
    return {
        "schema": SCHEMA,
        "bundle": bundle.id,
        "model": bundle.manifest.model.name,
        "precision": bundle.manifest.model.precision,
        "runtime": run.runtime,
        "phone": {"serial": run.serial, "soc": run.soc, "model": run.phone_model},
        "answers": [
            {
                "id": answer.question_id,
                "question": questions[answer.question_id].text,
                "answer": answer.text,
                "start": answer.start,
                "end": answer.end,
                "confidence": round(answer.confidence, 6),
                "score": round(answer.score, 6),
                "best_span": {
                    "text": questions[answer.question_id].context[slice(*answer.best_span)],
                    "start": answer.best_span[0],
                    "end": answer.best_span[1],
                },
                "null_score": round(answer.null_score, 6),
                "window": answer.window,
            }
            for answer in answers
        ],
    }
