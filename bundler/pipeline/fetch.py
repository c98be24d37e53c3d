"""A run's outputs, from the phones where they are not here yet, and the answers in them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, tee
from pathlib import Path

import numpy as np

from bundler import layout
from bundler.bundle import Bundle, Window, read_bundle
from bundler.device.chunks import chunks_of
from bundler.device.job import PhoneJob
from bundler.device.limits import Limit
from bundler.device.outputs import load
from bundler.device.phone import AdbServer
from bundler.device.targets import choose_targets, target_of
from bundler.errors import BundleInvalid, NoRun, PhoneError
from bundler.pipeline.deploy import begin, look_at
from bundler.qa.spans import USUAL, Decoding, WindowLogits, decode_all
from bundler.qa.words import tells_words
from bundler.runs.owner import owning
from bundler.runs.plausibility import doubts
from bundler.runs.predictions import write_answers
from bundler.runs.record import Run, newest_run
from bundler.scheduler.phones import WhenInterrupted, Work, carry_on
from bundler.types import OUTPUTS, RUNTIMES, Answer, Progress, Question, Runtime, silent

TOLD_EACH = 1000  # answers
START, END = OUTPUTS


@dataclass(frozen=True, kw_only=True)
class FetchRequest:
    """Which run: of these phones and this runtime where they are given. `timeout_s` is for everything together."""

    devices: Sequence[str] = ()
    runtime: Runtime | None = None
    timeout_s: float = 3600.0
    when_interrupted: WhenInterrupted = "leave"
    decoding: Decoding = USUAL


@dataclass(frozen=True)
class Fetched:
    """A run whose answers are written, how they were chosen, and why its logits are not plausible, if so."""

    bundle: Bundle
    run: Run
    decoding: Decoding
    doubts: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """answers.json."""
        return self.run.folder(self.bundle.path) / layout.ANSWERS

    def answered(self) -> Iterator[tuple[Question, Answer]]:
        """The questions in their order with their answers, which are decoded from the outputs when they are asked for.

        Raises:
            OutputsInvalid: an output cannot be read; BundleInvalid
        """
        folder = self.run.folder(self.bundle.path)
        return answered(self.bundle, folder, self.run.settings.chunk, self.decoding)


def fetch_answers(path: Path, server: AdbServer, request: FetchRequest, progress: Progress = silent) -> Fetched:
    """Decodes the newest run's outputs and writes answers.json and its kin into the run's folder; a run that
    is not finished, or that another command works on, is waited for, and carried on where it had to stop.

    Raises:
        InputError: there is no such bundle or run; PhoneError, RunFailed, OutputsInvalid, TimeUp, Interrupted
    """
    limit = Limit(request.timeout_s)
    progress("checking the bundle", 0, None)
    bundle = read_bundle(path)
    run = newest_run(bundle, request.runtime, request.devices) or _found_on_a_phone(bundle, server, request, limit)
    folder = run.folder(path)
    with owning(folder, "fetch-answers", limit, progress):
        run = newest_run(bundle, run.settings.runtime, run.phones) or run  # another command may have finished it
        if not run.finished:
            members = [look_at(target_of(name, server), bundle, run.settings, limit) for name in run.phones]
            run = carry_on(Work(bundle, run, members, limit, progress, False, request.when_interrupted))
        fetched = Fetched(bundle, run, request.decoding, doubts(bundle, folder, run.settings.chunk))
        answers = _told(fetched.answered(), len(bundle.questions), progress)
        write_answers(bundle, run, answers, fetched.doubts)
    return fetched


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


def decode_answers(bundle: Bundle, folder: Path, size: int) -> Iterator[Answer]:
    """The answer to each question, as `answered` finds it."""
    return (answer for _, answer in answered(bundle, folder, size, USUAL))


def answered(bundle: Bundle, folder: Path, size: int, decoding: Decoding) -> Iterator[tuple[Question, Answer]]:
    """Each question with its answer from the outputs in a run's folder, kept in chunks of `size` windows, in the order
    of the questions. Chunks are read as their answers are asked for.

    Raises:
        OutputsInvalid: an output cannot be read; BundleInvalid
    """
    manifest = bundle.manifest
    tokenizer = bundle.path / layout.HOST / layout.TOKENIZER
    asked, again = tee(_asked(bundle, folder, size))
    answers = decode_all(
        asked,
        max_tokens=decoding.max_tokens or manifest.max_answer_tokens,
        may_be_unanswerable=manifest.may_be_unanswerable,
        n_best=decoding.n_best,
        null_threshold=decoding.null_threshold,
        whole_words=tells_words(tokenizer) if decoding.whole_words is None else decoding.whole_words,
    )
    try:
        yield from zip((question for question, _ in again), answers, strict=True)
    except ValueError as error:  # a question without a token
        raise BundleInvalid(bundle.path / layout.HOST / layout.OFFSETS, str(error)) from error


def _asked(bundle: Bundle, folder: Path, size: int) -> Iterator[tuple[Question, list[WindowLogits]]]:
    """Each question with the logits of its windows."""
    questions = iter(bundle.questions)
    for question_id, windows in groupby(_windows(bundle, folder, size), key=lambda pair: pair[0].question_id):
        yield _question(bundle, questions, question_id), [logits for _, logits in windows]


def _question(bundle: Bundle, questions: Iterator[Question], question_id: str) -> Question:
    """The next of the questions that has this id.

    Raises:
        BundleInvalid: there is none
    """
    found = next((question for question in questions if question.id == question_id), None)
    if found is None:
        path = bundle.path / layout.HOST / layout.WINDOWS
        raise BundleInvalid(path, f"has a window of question {question_id!r}, which is not there, or not in its place")
    return found


def _windows(bundle: Bundle, folder: Path, size: int) -> Iterator[tuple[Window, WindowLogits]]:
    manifest = bundle.manifest
    for chunk in chunks_of(len(manifest.windows), size):
        logits = load(folder, chunk, manifest.outputs)
        # mapped anew for each chunk: what was read of a mapping counts as memory until it goes
        offsets = np.array(replace(bundle).offsets[chunk.start : chunk.stop])
        for line, window in enumerate(manifest.windows[chunk.start : chunk.stop]):
            start, end = (logits[name][line].reshape(-1) for name in (START, END))
            yield window, WindowLogits(window.key, offsets[line], start, end)


def _told(
    pairs: Iterable[tuple[Question, Answer]], total: int, progress: Progress
) -> Iterator[tuple[Question, Answer]]:
    """The same, while progress is told."""
    for number, pair in enumerate(pairs):
        if number % TOLD_EACH == 0:
            progress("decoding the answers", number, total)
        yield pair
