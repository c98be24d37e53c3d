"""Defines a step of a trial, and what is wrong if it did not work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bundler.device.explain import explain
from bundler.engines import EngineName
from bundler.errors import BundlerError, RunFailed
from bundler.model.make import Converter
from bundler.runs.record import Verified
from bundler.types import Runtime

SEND_IT = "Nothing here knows this failure: send report.zip, as docs/field-reports.md tells."
UNLIKE = "It computes something else than float32: take what worked, and send report.zip (docs/field-reports.md)."

Outcome = Literal["worked", "failed", "known limit", "not on this chip"]


@dataclass(frozen=True)
class Trouble:
    """Why a step did not work. `exit_status` is the engine's, `line` the phone's message, `explanation` the name of the
    known error (docs/errors.md), each None or empty if there is none; `remedy`: the next thing to try."""

    message: str
    remedy: str
    exit_status: int | None = None
    line: str = ""
    explanation: str = ""
    cause: str = ""


@dataclass(frozen=True)
class Step:
    """A build (without engine and runtime), or a run. `seconds` by this computer's clock, `phone_seconds` by the
    phone's; `celsius` of its hottest processor before and after; `limits`: the names of its known limits."""

    converter: Converter
    engine: EngineName | None
    runtime: Runtime | None
    outcome: Outcome
    seconds: float
    phone_seconds: float | None = None
    celsius: tuple[float | None, float | None] = (None, None)
    verified: Verified | None = None
    answers: Mapping[str, str] = field(default_factory=dict)
    trouble: Trouble | None = None
    limits: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Returns the step's name, which is also a file's name."""
        return "-".join((self.converter, self.engine or "build", *([self.runtime] if self.runtime else [])))


def trouble_of(error: BundlerError) -> Trouble:
    """Converts an error for a report, which contains the log."""
    if not isinstance(error, RunFailed):
        return Trouble(str(error), error.hint)
    lines, status = list(error.data["lines"]), int(error.data["exit_status"])
    known = explain(lines, status)
    if known is None:
        return Trouble(str(error), SEND_IT, status, str(error).rpartition(": ")[2])
    return Trouble(str(error), known.remedy, status, known.line, known.name, known.cause)


def unlike(verified: Verified, doubts: Sequence[str]) -> Trouble | None:
    """Returns what is wrong with the logits, or None."""
    if verified.passed and not doubts:
        return None
    said = [f"the smallest cosine with float32's logits is {verified.smallest_cosine:.6f}"]
    said.append(f"{verified.equal_answers} of {verified.windows} windows have float32's answer")
    return Trouble("; ".join([*said, *doubts]), UNLIKE)
