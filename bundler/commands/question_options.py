"""Selects the questions from the options of `build`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import UsageError
from bundler.qa.questions import check_text, open_questions
from bundler.qa.questions.entry import FIELDS
from bundler.qa.warnings import Notes
from bundler.resources import DEMO_QUESTIONS
from bundler.types import OUTPUTS, Question, Questions, QuestionSet


@dataclass(frozen=True)
class Asked:
    """The options of `build` about questions, as typed; `may_be_unanswerable` None: as the file says."""

    questions: Path | None = None
    limit: int | None = None
    columns: str | None = None
    context_file: Path | None = None
    questions_file: Path | None = None
    question: str | None = None
    context: str | None = None
    may_be_unanswerable: bool | None = None

    def open(self, notes: Notes, *, one_may_be_unanswerable: bool) -> Questions:
        """Opens the questions, by default the demo's. Adds warnings to `notes`.

        Raises:
            UsageError: options that do not go together; FileUnreadable, QuestionsInvalid
        """
        self._check()
        if self.question is not None and self.context is not None:
            check_text("command line", "--question", self.question)
            check_text("command line", "--context", self.context)
            said = self.may_be_unanswerable
            one = Question("question-1", self.question, self.context)
            return QuestionSet((one,), one_may_be_unanswerable if said is None else said)
        return open_questions(
            self.questions_file or self.questions or DEMO_QUESTIONS,
            limit=self.limit,
            notes=notes,
            may_be_unanswerable=self.may_be_unanswerable,
            columns=columns_of(self.columns) if self.columns else None,
            context=self.context_file,
        )

    def _check(self) -> None:
        if (self.question is None) != (self.context is None):
            raise UsageError("--question and --context go together", "Give both, or --questions FILE.")
        if (self.questions_file is None) != (self.context_file is None):
            raise UsageError("--questions-file and --context-file go together", "Give both, or --questions FILE.")
        given = {
            "--questions": self.questions,
            "--questions-file": self.questions_file,
            "--question": self.question,
        }
        ways = [option for option, value in given.items() if value is not None]
        if len(ways) > 1:
            raise UsageError(f"{ways[-1]} does not go with {ways[0]}", "Give one of them.")
        if self.columns and (self.questions is None or self.questions.suffix.lower() not in (".csv", ".tsv")):
            raise UsageError("--columns is for tables", "Give a .csv or .tsv file with --questions.")


def columns_of(text: str) -> Mapping[str, str]:
    """Returns the columns by their fields, from `question=NAME,context=NAME`.

    Raises:
        UsageError
    """
    return _pairs("--columns", text, FIELDS, "COLUMN")


def named_tensors(option: str, text: str | None) -> Mapping[str, str]:
    """Returns the model's tensors by our names, from `start_logits=NAME,end_logits=NAME`; empty for None.

    Raises:
        UsageError
    """
    from bundler.model.adapt import KNOWN_INPUTS

    return _pairs(option, text, KNOWN_INPUTS if option == "--inputs" else OUTPUTS, "NAME") if text is not None else {}


def _pairs(option: str, text: str, known: Sequence[str], value: str) -> Mapping[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    found = {name.strip(): given.strip() for name, _, given in pairs}
    if len(found) < len(pairs) or any(name not in known or not given for name, given in found.items()):
        names = "Fields" if value == "COLUMN" else "Names"
        field = "FIELD" if value == "COLUMN" else "NAME"
        what = f"{option} {text}: is not a list of {field}={value}"
        raise UsageError(what, f"{names} are {', '.join(known)}, each once.")
    return found
