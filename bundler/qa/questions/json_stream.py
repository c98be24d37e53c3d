"""Reads a JSON document of any size value by value: only the current value is in memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bundler.errors import QuestionsInvalid
from bundler.qa.questions.text import pieces_of

LARGEST = 1 << 26  # characters of a value that is read whole
DEEPEST = 100  # the largest nesting of skipped values
LONGEST_WORD = 16  # characters: a truncated true, \u00e9, 1e+9 or -Infinity fails near the end of the text
SPACE = " \t\n\r"


class JsonStream:
    """A position before a value of the document: `members` and `items` enter it, `value` reads it, `skip` skips it."""

    def __init__(self, path: Path) -> None:
        self._path, self._pieces, self._decoder = path, pieces_of(path), json.JSONDecoder()
        self._text, self._at = "", 0
        self._lines, self._columns = 0, 0  # the position of self._text in the file

    def peek(self) -> str:
        """Returns the first character of the next value; empty at the document's end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def value(self) -> Any:
        """Reads the whole next value.

        Raises:
            QuestionsInvalid: it is not JSON, or too large.
        """
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                if end + LONGEST_WORD < len(self._text) or not self._more():  # a number may go on
                    self._at = end
                    return value
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos + LONGEST_WORD > len(self._text)
                refusal = self._no_json(error.msg, error.pos)  # from the text in memory now
                if not (cut and self._more()):
                    raise refusal from error
            except ValueError as error:  # Python's limit for whole numbers
                raise self._no_json("a number has too many digits", self._at) from error
            except RecursionError as error:
                raise self._too_deep() from error
            if len(self._text) - self._at > LARGEST:
                what = f"holds a value of more than {LARGEST >> 20} million characters at {self._place(self._at)}"
                raise QuestionsInvalid(self._path, what, "Is this a file of questions? JSON of any size may hold them.")

    def members(self) -> Iterator[str]:
        """Yields the names in the next object; the caller must read each one's value before the next name."""
        for _ in self._elements("{", "}"):
            name = self.value()
            if not isinstance(name, str) or self.peek() != ":":
                raise self._no_json("a name and a colon are missing", self._at)
            self._at += 1
            yield name

    def items(self) -> Iterator[int]:
        """Yields the numbers of the array's items; the caller must read each item before the next."""
        return self._elements("[", "]")

    def skip(self, depth: int = DEEPEST) -> None:
        """Skips a value of any size.

        Raises:
            QuestionsInvalid: it is not JSON, or is nested too deeply.
        """
        if not depth:
            raise self._too_deep()
        if self._passes():
            return
        if self.peek() == "{":
            for _ in self.members():
                self.skip(depth - 1)
        elif self.peek() == "[":
            for _ in self.items():
                self.skip(depth - 1)
        else:
            self.value()

    def _passes(self) -> bool:
        """Skips a value that is already in memory, as most are; returns whether it did."""
        self.peek()
        try:
            _, end = self._decoder.raw_decode(self._text, self._at)
        except (ValueError, RecursionError):
            return False
        if end + LONGEST_WORD >= len(self._text):
            return False
        self._at = end
        return True

    def end(self) -> None:
        """Checks that nothing follows."""
        if self.peek():
            raise self._no_json("more follows the document's end", self._at)

    def _elements(self, opening: str, closing: str) -> Iterator[int]:
        if self.peek() != opening:
            raise self._no_json(f"{opening} is missing", self._at)
        self._at += 1
        if self.peek() == closing:
            self._at += 1
            return
        if not self.peek():
            raise self._no_json(f"{closing} is missing", self._at)
        number = 0
        while True:
            yield number
            number += 1
            mark = self.peek()
            if mark not in (",", closing):
                raise self._no_json(f", or {closing} is missing", self._at)
            self._at += 1
            if mark == closing:
                return

    def _more(self) -> bool:
        """Reads more than twice the unread text, so that a long value is parsed few times; returns False at the end."""
        kept, pieces, size = self._text[self._at :], [], 0
        while size <= 2 * len(kept) and (piece := next(self._pieces, None)) is not None:
            pieces.append(piece)
            size += len(piece)
        if not size:
            return False
        self._lines, self._columns = self._position(self._at)
        self._text, self._at = "".join([kept, *pieces]), 0
        return True

    def _position(self, at: int) -> tuple[int, int]:
        lines = self._text.count("\n", 0, at)
        return self._lines + lines, at - self._text.rfind("\n", 0, at) - 1 if lines else self._columns + at

    def _place(self, at: int) -> str:
        lines, columns = self._position(at)
        return f"line {lines + 1}, column {columns + 1}"

    def _too_deep(self) -> QuestionsInvalid:
        return QuestionsInvalid(self._path, f"is nested too deeply at {self._place(self._at)}")

    def _no_json(self, what: str, at: int) -> QuestionsInvalid:
        return QuestionsInvalid(self._path, f"is not JSON: {what} at {self._place(at)}")
