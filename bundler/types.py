"""Defines the frozen dataclasses that stages exchange."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Runtime = Literal["cpu", "gpu", "dsp"]
RUNTIMES: tuple[Runtime, ...] = ("cpu", "gpu", "dsp")
OUTPUTS = ("start_logits", "end_logits")  # a model's, in this order


class Progress(Protocol):
    """Receives the progress: a stage, the amount done, and the total (None: unknown)."""

    def __call__(self, stage: str, done: int, total: int | None, /) -> None: ...


def silent(stage: str, done: int, total: int | None, /) -> None:
    """Ignores the progress."""


class Seen(Protocol):
    """Takes an answer of a run in progress."""

    def __call__(self, question: Question, answer: Answer, /) -> None: ...


@dataclass(frozen=True)
class Question:
    """One question about one context.

    `answers` are the known truths, each text once; `impossible` tells whether the context is known to contain none,
    None if unknown. A question without either cannot be scored.
    """

    id: str
    text: str
    context: str
    title: str = ""
    answers: tuple[str, ...] = ()
    impossible: bool | None = None

    @property
    def has_truth(self) -> bool:
        return bool(self.answers) or self.impossible is True


class Questions(Protocol):
    """Questions in order, and whether some of them may have no answer in their context (SQuAD v2)."""

    def __iter__(self) -> Iterator[Question]: ...

    @property
    def may_be_unanswerable(self) -> bool: ...


@dataclass(frozen=True)
class QuestionSet:
    """Questions that are all in memory."""

    questions: tuple[Question, ...]
    may_be_unanswerable: bool

    def __iter__(self) -> Iterator[Question]:
        return iter(self.questions)


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of the model: `dtype` as numpy names it."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Feature:
    """One window of tokens over a question's context.

    inputs: tensor name -> int32 (length,); offsets: int32 (length, 2), the characters [start, end) of the context
    under each token, (-1, -1) where a token is not of the context.
    """

    key: str
    question_id: str
    inputs: Mapping[str, npt.NDArray[np.int32]]
    offsets: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A span that may be the answer: `text` is context[start:end]; "no answer" is empty with start = end = 0.

    `score` is the sum of the logits of its first and last token, `confidence` its share of the softmax over the list.
    """

    text: str
    start: int
    end: int
    score: float
    confidence: float
    window: str

    @property
    def is_null(self) -> bool:
        return self.end == 0


@dataclass(frozen=True)
class Answer:
    """An answer: `text` is context[start:end], or empty with start = end = 0 if the model finds none.

    `confidence` is the answer's share of the softmax over `n_best`, which holds the best spans, best first, including
    "no answer" if it may win; `best_span` is the best real span, even if "no answer" won; `null_score` is the logit sum
    of "no answer", and `null_odds` is its lead over the best span's.
    """

    question_id: str
    text: str
    start: int
    end: int
    confidence: float
    score: float
    best_span: tuple[int, int]
    null_score: float
    window: str
    null_odds: float = 0.0
    n_best: tuple[Candidate, ...] = ()
