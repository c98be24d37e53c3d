"""POSIX regular expressions, basic and extended, as Python's."""

import re

from bundler.virtual.shell.tools.base import Failure

CLASSES = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r"\s",
    "blank": r" \t",
    "punct": r"!-/:-@\[-`{-~",
    "xdigit": "0-9a-fA-F",
    "cntrl": r"\x00-\x1f\x7f",
    "print": r"\x20-\x7e",
    "graph": r"\x21-\x7e",
}
SPECIAL = "(){}|+?"
WORDS = {"<": r"\b(?=\w)", ">": r"\b(?<=\w)", "b": r"\b", "B": r"\B", "w": r"\w", "W": r"\W", "s": r"\s", "S": r"\S"}
WORDS |= {"n": r"\n", "t": r"\t"}


def regular_expression(text: str, *, extended: bool, ignore_case: bool = False) -> re.Pattern[str]:
    """The compiled expression.

    Raises:
        Failure: if it is malformed.
    """
    try:
        return re.compile(_Translation(text, extended).result(), re.IGNORECASE if ignore_case else 0)
    except re.error as error:
        raise Failure(f"bad regex '{text}': {error.msg}") from None


class _Translation:
    def __init__(self, text: str, extended: bool) -> None:
        self.text = text
        self.extended = extended
        self.position = 0
        self.pieces: list[str] = []
        self.start = True  # of a branch, where `*` and `^` have other meanings

    def result(self) -> str:
        while self.position < len(self.text):
            character = self.text[self.position]
            self.position += 1
            if character == "\\" and self.position < len(self.text):
                self._escape()
            elif character == "[":
                self._bracket()
            elif character in SPECIAL and self.extended:
                self._operator(character)
            else:
                self._plain(character)
        return "".join(self.pieces)

    def _escape(self) -> None:
        character = self.text[self.position]
        self.position += 1
        if character in SPECIAL and not self.extended:
            self._operator(character)
            return
        self.start = False
        if character.isdigit() and character != "0":
            self.pieces.append(f"(?:\\{character})")
        else:
            self.pieces.append(WORDS.get(character, re.escape(character)))

    def _operator(self, character: str) -> None:
        if character == "{":
            end = self.text.find("}" if self.extended else r"\}", self.position)
            body = self.text[self.position : end] if end >= 0 else ""
            if re.fullmatch("[0-9]*(,[0-9]*)?", body) and body and not self.start:
                self.position = end + (1 if self.extended else 2)
                self.pieces.append("{" + ("0" if body.startswith(",") else "") + body + "}")
            else:
                self.pieces.append(r"\{")
            return
        if character == "}":
            self.pieces.append(r"\}")
        elif character in "+?" and self.start:
            self.pieces.append("\\" + character)
        else:
            self.pieces.append(character)
        self.start = character in "(|"

    def _plain(self, character: str) -> None:
        if character == "*":
            self.pieces.append(r"\*" if self.start else "*")
        elif character == "^":
            self.pieces.append("^" if self.start or self.extended else r"\^")
            return
        elif character == "$":
            rest = self.text[self.position :]
            ends = not rest or self.extended or rest.startswith((r"\)", r"\|"))
            self.pieces.append(r"(?!\n)\Z" if ends else r"\$")
        elif character == ".":
            self.pieces.append(".")
        else:
            self.pieces.append(re.escape(character))
        self.start = False

    def _bracket(self) -> None:
        position = self.position
        negated = self.text[position : position + 1] == "^"
        position += negated
        body = ""
        first = True
        while position < len(self.text):
            character = self.text[position]
            if character == "]" and not first:
                break
            first = False
            if self.text.startswith("[:", position) and (end := self.text.find(":]", position)) > 0:
                body += CLASSES.get(self.text[position + 2 : end], "")
                position = end + 2
                continue
            ranged = character == "-" and body and self.text[position + 1 : position + 2] not in ("]", "")
            body += "-" if ranged else re.escape(character)
            position += 1
        else:
            raise Failure(f"bad regex '{self.text}': unterminated [")
        self.position = position + 1
        self.start = False
        self.pieces.append(f"[{'^' if negated else ''}{body}]")
