"""Answers questions about texts with a bundle whose model is already on the phone. Builds and changes nothing.

A session probes the phone once and links the bundle's files into a separate folder there, which it removes at its
end. Each question is one command on the phone, which takes the inputs and returns the outputs.
"""

import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path

from bundler import layout
from bundler.bundle import Bundle, read_bundle, read_windows
from bundler.bundle.inputs import kept_questions, write_windows
from bundler.device.limits import Limit
from bundler.device.phone import AdbServer
from bundler.device.targets import choose_target
from bundler.device.timings import kept_times
from bundler.engines import EngineChoice
from bundler.errors import PhoneTooSlow, QuestionTooLong, TimeUp
from bundler.qa.features import LEAST_CONTEXT, Windower, load_tokenizer
from bundler.qa.questions import check_text
from bundler.qa.spans import N_BEST, Decoding
from bundler.qa.special_tokens import Frame
from bundler.qa.texts import Text
from bundler.qa.words import tells_words
from bundler.resources import templates
from bundler.runs.answers import answered
from bundler.scheduler.ahead import ahead
from bundler.scheduler.member import Member, Wish
from bundler.scheduler.single_question import CHUNK, OnPhone, OnSimulator
from bundler.types import Answer, Candidate, Progress, Question, Runtime, silent

MOST_TOLD = 5  # texts, each with its best answer
BESIDE = 300  # characters of a sentence on either side of the answer, at most
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])|\n+")


@dataclass(frozen=True, kw_only=True)
class AskRequest:
    """Selects who answers: the only phone if `devices` is empty, or this computer with `simulate`. `timeout_s` applies
    to each question, and to probing the phone."""

    runtime: Runtime = "cpu"
    devices: Sequence[str] = ()
    engine: EngineChoice = "auto"
    perf_profile: str = "burst"
    timeout_s: float = 600.0
    simulate: bool = False


@dataclass(frozen=True)
class Found:
    """An answer: `text` is characters [start, end) of the named text, in a sentence that begins at `sentence_start`.

    "No answer" is an empty text without a name. `confidence` is the share in the softmax over the best spans of all
    texts, as in answers.json.
    """

    name: str
    text: str
    start: int
    end: int
    sentence: str
    sentence_start: int
    confidence: float
    score: float


@dataclass(frozen=True)
class Reply:
    """The answer, and the best span of each text, best first. Milliseconds: `network_ms` until the engine's last output
    (None if the phone does not report it), `phone_ms` until the engine's end, `total_ms` as the user waited."""

    question: str
    answer: Found
    best: tuple[Found, ...]
    windows: int
    network_ms: float | None
    phone_ms: float
    total_ms: float
    pushed_bytes: int


@contextmanager
def asking(path: Path, server: AdbServer, request: AskRequest, progress: Progress = silent) -> Iterator["Session"]:
    """Opens a session of questions; first pushes what the phone lacks of the bundle.

    Raises:
        InputError: the bundle is refused; PhoneError: the phone is refused; UsageError: several phones
    """
    limit = Limit(request.timeout_s)
    progress("checking the bundle", 0, None)
    bundle = read_bundle(path)
    with tempfile.TemporaryDirectory(prefix="mbqa-ask-") as folder:
        if not request.simulate:
            progress("looking at the phone", 0, None)
        found = ahead(_asked, bundle, server, request, limit, Path(folder))
        reader = Reader(bundle)  # while the phone is being probed
        where = found.result()
        try:
            where.bring(limit, progress)
            yield Session(reader, where, request.timeout_s, Path(folder))
        except BaseException as error:
            where.stop()
            if isinstance(error, TimeUp):  # its remedies are for runs that can be resumed
                raise PhoneTooSlow(where.name, "answering", request.timeout_s) from error
            raise
        finally:
            where.leave()


def _asked(bundle: Bundle, server: AdbServer, request: AskRequest, limit: Limit, folder: Path) -> OnPhone | OnSimulator:
    """Returns the phone or simulator that answers. Raises: PhoneError, UsageError, SocUnfit"""
    if request.simulate:
        return OnSimulator(bundle, request.runtime)
    target = choose_target(request.devices, server, "ask asks one phone")
    member = Member.of(target, bundle, Wish(request.runtime, request.engine), limit)
    return OnPhone(bundle, member, request.perf_profile, folder)


class Reader:
    """Prepares a bundle's questions and texts: tokenizer, windows and decoding."""

    def __init__(self, bundle: Bundle) -> None:
        path, length = bundle.path / layout.HOST / layout.TOKENIZER, bundle.manifest.inputs[0].shape[1]
        self.bundle, self.decoding = bundle, Decoding(whole_words=tells_words(path))
        self.tokenizer = load_tokenizer(path)
        self.windower = Windower(self.tokenizer, length, bundle.manifest.doc_stride)
        self.room = length - len(Frame.of(self.tokenizer)) - LEAST_CONTEXT
        self.template = templates(html=False).get_template(f"{layout.INPUT_LIST}.j2")


class Session:
    """A bundle and the phone or simulator that computes for it; `where.brought_bytes`: what the phone lacked of it."""

    def __init__(self, reader: Reader, where: OnPhone | OnSimulator, timeout_s: float, folder: Path) -> None:
        self.bundle, self.where = reader.bundle, where
        self._reader, self._timeout_s, self._folder = reader, timeout_s, folder

    def ask(self, question: str, texts: Sequence[Text], progress: Progress = silent) -> Reply:
        """Returns the best answers in the texts.

        Raises:
            QuestionsInvalid, QuestionTooLong; PhoneError, RunFailed, OutputsInvalid; TimeUp, which `asking` turns into
        PhoneTooSlow
        """
        began, pushed, limit = time.monotonic(), self.where.pushed_bytes, Limit(self._timeout_s)
        check_text("command line", "the question", question)
        tokens = len(self._reader.tokenizer.encode(question, add_special_tokens=False).ids)
        if tokens > self._reader.room:
            raise QuestionTooLong(f"{question[:40]}...", tokens, max(0, self._reader.room))
        progress("cutting the texts into windows", 0, None)
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name)
            asked = self._written(question, texts, folder)
            self.where.run(asked, folder, limit, progress)
            answers = [answer for _, answer in answered(asked, folder, CHUNK, self._reader.decoding)]
            times = kept_times(folder)
        last = [chunk.results_s[-1] for chunk in times if chunk.from_begin and chunk.results_s]
        answer, best = _best(texts, answers)
        return Reply(
            question=question,
            answer=answer,
            best=best,
            windows=len(asked.manifest.windows),
            network_ms=_ms(sum(last)) if len(last) == len(times) else None,
            phone_ms=_ms(sum(chunk.seconds for chunk in times)),
            total_ms=_ms(time.monotonic() - began),
            pushed_bytes=self.where.pushed_bytes - pushed,
        )

    def _written(self, question: str, texts: Sequence[Text], folder: Path) -> Bundle:
        """Writes the question's windows as a bundle into the folder, without the files that the asked bundle has."""
        device, host = folder / layout.DEVICE, folder / layout.HOST
        device.mkdir()
        host.mkdir()
        manifest = self.bundle.manifest
        inputs, outputs = ([spec.name for spec in side] for side in (manifest.inputs, manifest.outputs))
        questions = [Question(text.name or str(n), question, text.content) for n, text in enumerate(texts, 1)]
        write_windows(self._reader.windower.windows(kept_questions(questions, host)), inputs, folder)
        windows = read_windows(host, inputs, outputs)
        listed = self._reader.template.render(outputs=outputs, windows=windows)
        (device / layout.INPUT_LIST).write_text(listed, encoding="utf-8", newline="\n")
        return replace(self.bundle, path=folder, manifest=replace(manifest, windows=windows), id=self.where.id)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)


def _best(texts: Sequence[Text], answers: Sequence[Answer]) -> tuple[Found, tuple[Found, ...]]:
    """Returns the answer over all texts, as if all windows were of one text; and each text's best span, best first."""
    pairs = [(text, span) for text, answer in zip(texts, answers, strict=True) for span in answer.n_best]
    spans = sorted((pair for pair in pairs if not pair[1].is_null), key=lambda pair: -pair[1].score)
    null = min(answer.null_score for answer in answers) if len(spans) < len(pairs) else None
    listed = [span.score for _, span in spans[:N_BEST]] + ([] if null is None else [null])
    top = max(listed)
    whole = sum(exp(score - top) for score in listed)
    firsts = {text: (text, span) for text, span in reversed(spans)}  # the first of each text in `spans`
    told = sorted(firsts.values(), key=lambda pair: -pair[1].score)[:MOST_TOLD]
    best = tuple(_found(text, span, exp(span.score - top) / whole) for text, span in told)
    if null is not None and null > best[0].score:
        return Found("", "", 0, 0, "", 0, round(exp(null - top) / whole, 6), null), best
    return best[0], best


def _found(text: Text, span: Candidate, confidence: float) -> Found:
    begin, end = sentence_around(text.content, span.start, span.end)
    sentence = text.content[begin:end]
    return Found(text.name, span.text, span.start, span.end, sentence, begin, round(confidence, 6), span.score)


def sentence_around(text: str, start: int, end: int) -> tuple[int, int]:
    """Returns the characters [begin, stop) of the sentence or sentences that contain text[start:end]."""
    first = max(0, start - BESIDE)
    begin = max((first + found.end() for found in SENTENCE_END.finditer(text[first:start])), default=first)
    before = max(0, end - 1)  # the answer may end with its sentence
    found = next((found for found in SENTENCE_END.finditer(text[before : end + BESIDE]) if found.start() > 0), None)
    return begin, min(len(text), end + BESIDE) if found is None else before + found.start()
