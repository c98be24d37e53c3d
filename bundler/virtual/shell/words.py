"""Reading a script's characters: blanks, quotes, `$` and backticks. What commands are made of is parser.py's."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable

from bundler.virtual.shell.syntax import (
    Arithmetic,
    HereDocument,
    Parameter,
    Part,
    Script,
    ShellSyntaxError,
    Substitution,
    Text,
    Word,
)

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
DELIMITERS = " \t\n;&|<>()"
SPECIAL = "@*#?-$!"
OPERATORS = re.compile(r":[-=?+]|[-=?+]|##?|%%?|//?|:")
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "v": "\v"}
CODE = re.compile(r"x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|u[0-9A-Fa-f]{1,4}|U[0-9A-Fa-f]{1,8}")


class Pieces:
    """A word in the making: neighbouring characters of one kind become one Text."""

    def __init__(self) -> None:
        self.parts: list[Part] = []

    def text(self, text: str, *, quoted: bool) -> None:
        last = self.parts[-1] if self.parts else None
        if isinstance(last, Text) and last.quoted == quoted:
            self.parts[-1] = Text(last.text + text, quoted)
        else:
            self.parts.append(Text(text, quoted))

    def word(self) -> Word:
        return tuple(self.parts)


class Scanner(ABC):
    """A place in a script. `more` gives the next line where the script arrives bit by bit, "" at its end."""

    def __init__(self, source: str, more: Callable[[], str] | None = None, line: int = 1) -> None:
        self.source = source
        self.more = more
        self.position = 0
        self.first_line = line
        self.documents: list[HereDocument] = []

    @property
    def line(self) -> int:
        return self.first_line + self.source.count("\n", 0, self.position)

    @property
    def error_line(self) -> int:
        """The line that a syntax error is told of: the last one where the script just ends."""
        return self.line - (self.position > 0 and not self.at() and self.source.endswith("\n"))

    def at(self, offset: int = 0) -> str:
        """The character `offset` after the current one, "" past the end."""
        while self.position + offset >= len(self.source):
            more = self.more() if self.more else ""
            if not more:
                self.more = None
                return ""
            self.source += more
        return self.source[self.position + offset]

    def starts(self, text: str) -> bool:
        return all(self.at(i) == c for i, c in enumerate(text))

    def take(self) -> str:
        character = self.at()
        self.position += len(character)
        return character

    def take_match(self, pattern: re.Pattern[str]) -> str:
        """What `pattern` matches here, taken. Only for patterns that stay on the line."""
        self.at()
        match = pattern.match(self.source, self.position)
        if not match:
            return ""
        self.position = match.end()
        return match.group()

    def skip_blanks(self) -> None:
        while True:
            character = self.at()
            if character in (" ", "\t") and character:
                self.position += 1
            elif character == "\\" and self.at(1) == "\n":
                self.position += 2
            elif character == "#":
                while self.at() not in ("", "\n"):
                    self.position += 1
            else:
                return

    @abstractmethod
    def script_until(self, closing: str) -> Script:
        """A script up to `closing`, which is taken: the parser's part."""

    @abstractmethod
    def script_of(self, text: str) -> Script:
        """The script that `text` is: the parser's part."""

    def word(self) -> Word:
        """The word that begins here; empty where none does."""
        pieces = Pieces()
        while (character := self.at()) and character not in DELIMITERS:
            self._piece(pieces)
        return pieces.word()

    def _piece(self, pieces: Pieces) -> None:
        """Takes one character, quoted stretch or expansion of an unquoted word."""
        character = self.take()
        if character == "'":
            pieces.text(self._single(), quoted=True)
        elif character == '"':
            self._double(pieces)
        elif character == "\\":
            following = self.take()
            if following != "\n":
                pieces.text(following or "\\", quoted=True)
        elif character == "$":
            self._dollar(pieces, quoted=False)
        elif character == "`":
            pieces.parts.append(self._backticks(quoted=False))
        else:
            pieces.text(character, quoted=False)

    def _single(self) -> str:
        start = self.position
        while (character := self.take()) != "'":
            if not character:
                raise ShellSyntaxError("no closing quote")
        return self.source[start : self.position - 1]

    def _double(self, pieces: Pieces) -> None:
        before = len(pieces.parts)
        pieces.parts.append(Text("", quoted=True))
        while self.at() != '"':
            if not self.at():
                raise ShellSyntaxError("no closing quote")
            self.quoted_piece(pieces, '$`"\\')
        self.position += 1
        if len(pieces.parts) > before + 1 and pieces.parts[before] == Text("", quoted=True):
            del pieces.parts[before]

    def quoted_piece(self, pieces: Pieces, escapable: str) -> None:
        """Takes one character or expansion as between double quotes."""
        character = self.take()
        if character == "\\":
            following = self.at()
            if following == "\n":
                self.position += 1
            elif following and following in escapable:
                pieces.text(self.take(), quoted=True)
            else:
                pieces.text("\\", quoted=True)
        elif character == "$":
            self._dollar(pieces, quoted=True)
        elif character == "`":
            pieces.parts.append(self._backticks(quoted=True))
        else:
            pieces.text(character, quoted=True)

    def _dollar(self, pieces: Pieces, *, quoted: bool) -> None:
        character = self.at()
        if character == "(":
            pieces.parts.append(self._parenthesis(quoted))
        elif character == "{":
            pieces.parts.append(self._braces(quoted))
        elif character == "'" and not quoted:
            self.position += 1
            pieces.text(self._escaped(), quoted=True)
        elif character == '"' and not quoted:
            self.position += 1
            self._double(pieces)
        elif character and (character in SPECIAL or (character.isascii() and character.isdigit())):
            pieces.parts.append(Parameter(self.take(), quoted))
        elif name := self.take_match(NAME):
            pieces.parts.append(Parameter(name, quoted))
        else:
            pieces.text("$", quoted=quoted)

    def _parenthesis(self, quoted: bool) -> Part:
        self.position += 1
        if self.at() == "(":
            start = self.position
            expression = self.arithmetic()
            if expression is not None:
                return Arithmetic(expression, quoted)
            self.position = start
        return Substitution(self.script_until(")"), quoted)

    def arithmetic(self) -> Word | None:
        """The expression of `((...))`, from its second parenthesis on; None (nothing taken for good) if it is none."""
        self.position += 1
        start, depth = self.position, 0
        while character := self.take():
            if character == "(":
                depth += 1
            elif character == ")":
                depth -= 1
                if depth < 0:
                    break
        if self.at() != ")":
            return None
        text = self.source[start : self.position - 1]
        self.position += 1
        return self.inner(text).document_word(escapable='$`"\\', drop='"')

    def inner(self, text: str) -> "Scanner":
        """A scanner of the same kind for a stretch of this script."""
        return type(self)(text, line=self.line)

    def document_word(self, escapable: str = "$`\\", drop: str = "") -> Word:
        """All that is left, as the body of a here-document."""
        pieces = Pieces()
        while character := self.at():
            if character in drop:
                self.position += 1
            else:
                self.quoted_piece(pieces, escapable)
        return pieces.word()

    def _backticks(self, quoted: bool) -> Substitution:
        text = ""
        while (character := self.take()) != "`":
            if not character:
                raise ShellSyntaxError("no closing quote")
            if character == "\\" and (following := self.at()) and following in ("$`\\" + ('"' if quoted else "")):
                character = self.take()
            text += character
        return Substitution(self.script_of(text), quoted)

    def _braces(self, quoted: bool) -> Parameter:
        self.position += 1
        start = self.position
        if self.at() == "#" and self.at(1) not in ("}", ""):
            self.position += 1
            name = self._name()
            if name and self.at() == "}":
                self.position += 1
                return Parameter(name, quoted, "length")
            self.position = start
        name = self._name()
        if name and self.at() == "}":
            self.position += 1
            return Parameter(name, quoted)
        operator = self.take_match(OPERATORS) if name else ""
        if not operator:
            self._bad(start)
        argument = self._braced_word(quoted and operator.lstrip(":") in ("-", "=", "?", "+"))
        return Parameter(name, quoted, operator, argument)

    def _name(self) -> str:
        if (character := self.at()) and character in SPECIAL:
            return self.take()
        return self.take_match(NAME) or self.take_match(re.compile(r"[0-9]+"))

    def _bad(self, start: int) -> None:
        while self.at() not in ("}", "\n", ""):
            self.position += 1
        raise ShellSyntaxError("${" + self.source[start : self.position] + "}: bad substitution")

    def _braced_word(self, quoted: bool) -> Word:
        pieces = Pieces()
        while (character := self.at()) != "}":
            if not character:
                raise ShellSyntaxError("no closing quote")
            if not quoted:
                self._piece(pieces)
            elif character == '"':
                self.position += 1
                self._double(pieces)
            else:
                self.quoted_piece(pieces, '$`"\\}')
        self.position += 1
        return pieces.word()

    def _escaped(self) -> str:
        text = ""
        while (character := self.take()) != "'":
            if not character:
                raise ShellSyntaxError("no closing quote")
            if character != "\\":
                text += character
            elif code := self.take_match(CODE):
                text += _character(code)
            else:
                character = self.take()
                text += ESCAPES.get(character, character if character in "'\"\\?" else "\\" + character)
        return text


def _character(code: str) -> str:
    """What the escape `\\code` stands for: a byte for octal and x, a character for u and U."""
    if code[0] in "uU":
        point = int(code[1:], 16)  # mksh knows those of 16 bits, and writes halves of surrogate pairs as they are
        character = chr(point) if point < 0xFFFE else "\ufffd"
        return character.encode(errors="surrogatepass").decode(errors="surrogateescape")
    value = int(code[1:], 16) if code[0] == "x" else int(code, 8) & 0xFF
    return bytes([value]).decode(errors="surrogateescape")
