"""A run's outputs, from the phones where they are not here yet, and the answers in them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from bundler import layout
from bundler.bundle import Bundle, Window, read_bundle, writing
from bundler.crew import WhenInterrupted, Work, carry_on
from bundler.deploy import begin, look_at
from bundler.device.chunks import chunks_of
from bundler.device.job import PhoneJob
from bundler.device.limits import Limit
from bundler.device.outputs import load
from bundler.device.phone import AdbServer
from bundler.device.targets import choose_targets, target_of
from bundler.errors import NoRun, PhoneError
from bundler.predictions import write_n_best, write_predictions
from bundler.qa.spans import USUAL, Decoding, WindowLogits, decode
from bundler.run import Run, newest_run
from bundler.types import OUTPUTS, RUNTIMES, Answer, Progress, Runtime

SCHEMA = 3
START, END = OUTPUTS


@dataclass(frozen=True)
class FetchRequest:
    """Which run: of these phones and this runtime where they are given. `timeout_s` is for everything together."""

    devices: Sequence[str] = ()
    runtime: Runtime | None = None
    timeout_s: float = 3600.0
    when_interrupted: WhenInterrupted = "leave"
    decoding: Decoding = USUAL


@dataclass(frozen=True)
class Fetched:
    """A run's answers in the order of the questions, and the file they were written to."""

    bundle: Bundle
    run: Run
    answers: tuple[Answer, ...]
    path: Path


def fetch_answers(path: Path, server: AdbServer, request: FetchRequest, progress: Progress) -> Fetched:
    """Decodes the newest run's outputs and writes answers.json and its kin into the run's folder; a run that
    is not finished is waited for, and carried on where it had to stop.

    Raises:
        InputError: there is no such bundle or run; PhoneError, RunFailed, OutputsInvalid, TimeUp, Interrupted
    """
    limit = Limit(request.timeout_s)
    progress("checking the bundle", 0, None)
    bundle = read_bundle(path)
    run = newest_run(bundle, request.runtime, request.devices) or _found_on_a_phone(bundle, server, request, limit)
    if not run.finished:
        members = [look_at(target_of(name, server), bundle, run.settings, limit) for name in run.phones]
        run = carry_on(Work(bundle, run, members, limit, progress, False, request.when_interrupted))
    progress("decoding the answers", 0, None)
    answers = tuple(decode_answers(bundle, run.folder(path), run.settings.chunk, request.decoding))
    target = run.folder(path) / layout.ANSWERS
    with writing(target) as draft:
        document = answers_document(bundle, run, answers)
        draft.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    odds = {answer.question_id: answer.null_odds for answer in answers} if bundle.manifest.may_be_unanswerable else None
    write_predictions(target.parent, {answer.question_id: answer.text for answer in answers}, odds)
    write_n_best(target.parent, answers)
    return Fetched(bundle, run, answers, target)


def _found_on_a_phone(bundle: Bundle, server: AdbServer, request: FetchRequest, limit: Limit) -> Run:
    """A run of this bundle that another computer began, by its job on a phone.

    Raises:
        NoRun: no phone has one; PhoneError: a phone that was asked for is not usable.
    """
    try:
        targets = choose_targets(request.devices, server)
        jobs = [
            (target, PhoneJob(target.find(limit), bundle.id, runtime)) for target in targets for runtime in RUNTIMES
        ]
        found = [(target, status) for target, job in jobs if (status := job.status()).settings]
    except PhoneError as error:
        if request.devices:
            raise
        raise NoRun(bundle.path, request.runtime, request.devices) from error
    for target, status in found:
        settings = status.settings
        if settings and (status.alive or status.done) and request.runtime in (None, settings.runtime):
            return begin(bundle, [target], settings)
    raise NoRun(bundle.path, request.runtime, request.devices)


def decode_answers(bundle: Bundle, folder: Path, size: int, decoding: Decoding = USUAL) -> Iterator[Answer]:
    """The answer to each question from the outputs in a run's folder, kept in chunks of `size` windows, in the order of
    the questions.

    Raises:
        OutputsInvalid: an output cannot be read.
    """
    questions, manifest = iter(bundle.questions), bundle.manifest
    for question_id, windows in groupby(_windows(bundle, folder, size), key=lambda pair: pair[0].question_id):
        yield decode(
            next(question for question in questions if question.id == question_id),
            [logits for _, logits in windows],
            max_tokens=decoding.max_tokens or manifest.max_answer_tokens,
            may_be_unanswerable=manifest.may_be_unanswerable,
            n_best=decoding.n_best,
            null_threshold=decoding.null_threshold,
        )


def _windows(bundle: Bundle, folder: Path, size: int) -> Iterator[tuple[Window, WindowLogits]]:
    manifest = bundle.manifest
    for chunk in chunks_of(len(manifest.windows), size):
        logits = load(folder, chunk, manifest.outputs)
        for line, window in enumerate(manifest.windows[chunk.start : chunk.stop]):
            start, end = (logits[name][line].reshape(-1) for name in (START, END))
            yield window, WindowLogits(window.key, bundle.offsets[window.line], start, end)


def answers_document(bundle: Bundle, run: Run, answers: tuple[Answer, ...]) -> dict[str, object]:
    """What answers.json holds."""
    questions = {question.id: question for question in bundle.questions}
    return {
        "schema": SCHEMA,
        "bundle": bundle.id,
        "model": bundle.manifest.model.name,
        "precision": bundle.manifest.model.precision,
        "runtime": run.settings.runtime,
        "phones": [
            {"serial": part.phone, "soc": part.soc, "model": part.model, "windows": part.windows} for part in run.parts
        ],
        "verified": asdict(run.verified) if run.verified else None,
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
