"""Prints everything: tables, progress and errors for people, one JSON document for programs."""

import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bundler.errors import BundlerError, QuestionsInvalid
from bundler.types import Answer, Progress, Question, Seen

PIECE = 1 << 16  # characters
NO_ANSWER = "(no answer)"
MOST_SEEN = 20  # answers shown during a run
NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}  # JSON escapes the others by itself


class Console:
    """Writes for people, or, with `as_json`, one document on stdout and everything else on stderr."""

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json = as_json

    def say(self, text: str) -> None:
        """Prints a line."""
        print(_visible(text), file=sys.stderr if self._as_json else sys.stdout, flush=True)

    def marked(self, before: str, what: str, after: str) -> None:
        """Prints a line in which `what` stands out: bold on a terminal, in brackets elsewhere."""
        stream = sys.stderr if self._as_json else sys.stdout
        left, right = ("\x1b[1m", "\x1b[0m") if stream.isatty() and "NO_COLOR" not in os.environ else ("[", "]")
        print(f"{_visible(before)}{left}{_visible(what)}{right}{_visible(after)}", file=stream, flush=True)

    @property
    def is_dialogue(self) -> bool:
        """Returns whether a person types on standard input."""
        return sys.stdin.isatty() and not self._as_json

    def lines(self, prompt: str) -> Iterator[str]:
        """Yields the lines that a person types, or the lines of standard input, without blank ones.

        Raises:
            QuestionsInvalid: it is not UTF-8 text
        """
        try:
            for line in iter(partial(input, prompt), None) if self.is_dialogue else sys.stdin:
                if line.strip():
                    yield line.strip()
        except EOFError:
            self.say("")
        except UnicodeDecodeError as error:
            raise QuestionsInvalid("standard input", "is not UTF-8", "Give questions as UTF-8, one a line.") from error

    def seen(self) -> Seen | None:
        """Returns a function that shows the first answers of a run as they arrive; None if no person is watching."""
        if self._as_json or not (sys.stdout.isatty() and sys.stderr.isatty()):
            return None
        left = MOST_SEEN

        def show(question: Question, answer: Answer, /) -> None:
            nonlocal left
            if left:
                self.say(f"{question.text} -> {answer.text or NO_ANSWER} ({answer.confidence:.3f})")
                left -= 1

        return show

    def warn(self, text: str) -> None:
        print(f"warning: {_visible(text)}", file=sys.stderr, flush=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Prints a table, except with `as_json`; cells are never interpreted as markup."""
        if self._as_json:
            return
        from rich.console import Console as RichConsole
        from rich.table import Table
        from rich.text import Text

        table = Table(show_edge=False, header_style="bold")
        for column in columns:
            table.add_column(Text(_visible(column)), overflow="fold")
        for row in rows:
            table.add_row(*(Text(_visible(cell)) for cell in row))
        RichConsole(highlight=False).print(table)

    def document(self, value: Any) -> None:
        """Prints the command's result, with `as_json` only."""
        if self._as_json:
            import json

            _print_json(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")

    def document_file(self, path: Path) -> None:
        """Prints the result from a file, which may be too large for memory, with `as_json` only."""
        if self._as_json:
            with path.open(encoding="utf-8") as file:
                for piece in iter(partial(file.read, PIECE), ""):
                    _print_json(piece)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Shows each stage with its progress, its speed, and the time left: a bar on a terminal, elsewhere a line for
        each quarter."""
        if not sys.stderr.isatty():
            yield PlainProgress()
            return
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as RichProgress

        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[pace]}"))
        with RichProgress(*columns, console=RichConsole(stderr=True), transient=True) as bar:
            task, pace = bar.add_task("", total=None, pace=""), Pace()

            def show(stage: str, done: int, total: int | None, /) -> None:
                words = pace.words(stage, done, total)
                bar.update(task, description=_visible(stage), completed=done, total=total, pace=words)

            yield show


class Pace:
    """Describes a stage's progress, speed and remaining time in words."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage = ""
        self._begun = (0.0, 0)

    def words(self, stage: str, done: int, total: int | None) -> str:
        """Returns the description, or an empty text if the total is unknown."""
        now = self._clock()
        if stage != self._stage:
            self._stage, self._begun = stage, (now, done)
        if not total:
            return ""
        since, before = self._begun
        told = f"{_short(done)} of {_short(total)}"
        if done <= before or now <= since:
            return told
        rate = (done - before) / (now - since)
        return f"{told}, {_short(rate)}/s, {(total - done) / rate:.0f} s left"


def _print_json(text: str) -> None:
    """Prints a piece of a JSON document; escapes control characters, and characters that stdout cannot encode."""
    import json

    if (sys.stdout.encoding or "").lower() not in ("utf-8", "utf8"):  # usually a pipe on Windows
        text = NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text)
    print(text.translate(_CONTROLS), end="", flush=True)


def _short(number: float) -> str:
    """Formats a number with about three digits: 12, 3.4, 5.6M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / min(size, 1e3 if suffix == 'k' else size):.1f}{suffix}"
    return f"{number:.0f}" if number == int(number) or number >= 100 else f"{number:.1f}"


class PlainProgress:
    """Prints a line when a stage begins, and one for each quarter of it if its size is known."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._last: tuple[str, int] | None = None
        self._pace = Pace(clock)

    def __call__(self, stage: str, done: int, total: int | None, /) -> None:
        words = self._pace.words(stage, done, total)
        quarter = 4 * done // total if total else 0
        if self._last != (stage, quarter):
            self._last = (stage, quarter)
            print(_visible(f"{stage} ({words})" if words and done else stage), file=sys.stderr, flush=True)


def _visible(text: str) -> str:
    """Returns the text on one line, with control characters (which a terminal would obey) shown as escapes."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}" for c in text)


def show_error(error: BundlerError, *, as_json: bool = False) -> None:
    """Prints one line with the error, and one with the remedy; with `as_json` also a document on stdout."""
    print(f"error: {_visible(str(error))}\nhint: {_visible(error.hint)}", file=sys.stderr, flush=True)
    if as_json:
        import json

        told = {
            "error": type(error).__name__,
            "message": str(error),
            "hint": error.hint,
            "exit_code": error.exit_code,
            "data": {name: _plain(value) for name, value in error.data.items()},
        }
        _print_json(json.dumps(told, ensure_ascii=False, indent=1, allow_nan=False, default=str) + "\n")


def _plain(value: Any) -> Any:
    """Returns the value in a form that JSON supports: None for a number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
