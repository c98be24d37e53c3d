"""sed's scripts: text to commands."""

import re
from dataclasses import dataclass, field

from bundler.virtual.shell.tools.base import Failure
from bundler.virtual.shell.tools.regex import regular_expression

SIMPLE = "dDgGhHlnNpPqQx="
Address = int | str | re.Pattern[str]
"""A line's number, `$`, `+N` or an expression."""


@dataclass
class Command:
    """One command and the lines it is for; a block's commands follow it, up to its `}`."""

    name: str
    first: Address | None = None
    last: Address | None = None
    negated: bool = False
    text: str = ""
    pattern: re.Pattern[str] | None = None
    replacement: str = ""
    flags: str = ""
    end: int = 0
    active_until: int | None = field(default=None)
    active: bool = False


class Script:
    """Parses a script; `commands` is the result, blocks flat with the index of their end."""

    def __init__(self, text: str, *, extended: bool) -> None:
        self.text = text
        self.extended = extended
        self.position = 0
        self.commands: list[Command] = []
        blocks: list[int] = []
        while self._skip(" \t\n;"):
            command = self._command()
            if command.name == "{":
                blocks.append(len(self.commands))
            elif command.name == "}":
                if not blocks:
                    self.fail()
                self.commands[blocks.pop()].end = len(self.commands)
            self.commands.append(command)
        if blocks:
            raise Failure("unclosed {")

    def fail(self) -> Failure:
        raise Failure(f"bad pattern '{self.text}'@{self.position + 1} ({self.text[self.position : self.position + 1]})")

    def _skip(self, characters: str) -> bool:
        while self.position < len(self.text) and self.text[self.position] in characters:
            self.position += 1
        return self.position < len(self.text)

    def _peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def _command(self) -> Command:
        if self._peek() == "#":
            self._line()
            return Command("#")
        command = Command("", self._address())
        if command.first is not None and self._skip(" \t") and self._peek() == ",":
            self.position += 1
            self._skip(" \t")
            command.last = self._address(relative=True)
            if command.last is None:
                self.fail()
        self._skip(" \t")
        while self._peek() == "!":
            command.negated = True
            self.position += 1
            self._skip(" \t")
        command.name = self._peek()
        if not command.name:
            self.fail()
        self.position += 1
        self._arguments(command)
        return command

    def _arguments(self, command: Command) -> None:
        if command.name in "s":
            self._substitution(command)
        elif command.name == "y":
            old, new = self._delimited(2)
            command.text, command.replacement = _plain(old), _plain(new)
            if len(command.text) != len(command.replacement):
                raise Failure("y strings of different lengths")
        elif command.name in "aic":
            self._skip(" \t")
            if self._peek() == "\\":
                self.position += 1
                self._skip(" \t")
                self.position += self._peek() == "\n"
            command.text = self._text_lines()
        elif command.name in ":btT":
            self._skip(" \t")
            end = re.compile(r"[;\n}]|$" if command.name != ":" else r"[\n;]|$").search(self.text, self.position)
            command.text = self.text[self.position : end.start() if end else None].strip()
            self.position = end.start() if end else len(self.text)
        elif command.name in "rw":
            self._skip(" \t")
            command.text = self._line()
        elif command.name in ("q", "Q"):
            self._skip(" \t")
            match = re.compile("[0-9]*").match(self.text, self.position)
            command.text = match.group() if match else ""
            self.position += len(command.text)
        elif command.name not in SIMPLE + "{}":
            self.position -= 1
            self.fail()

    def _line(self) -> str:
        end = self.text.find("\n", self.position)
        line = self.text[self.position : end if end >= 0 else None]
        self.position += len(line)
        return line

    def _text_lines(self) -> str:
        """The text of a, i or c: to the end of the line, further where a backslash ends it."""
        text = self._line()
        while text.endswith("\\") and self._peek() == "\n":
            self.position += 1
            text = text[:-1] + "\n" + self._line()
        return re.sub(r"\\(.)", r"\1", text)

    def _address(self, *, relative: bool = False) -> Address | None:
        character = self._peek()
        if match := re.compile(r"[0-9]+").match(self.text, self.position):
            self.position = match.end()
            return int(match.group())
        if relative and (match := re.compile(r"\+[0-9]+").match(self.text, self.position)):
            self.position = match.end()
            return match.group()
        if character == "$":
            self.position += 1
            return "$"
        if character == "\\":
            self.position += 1
        elif character != "/":
            return None
        (text,) = self._delimited(1)
        ignore_case = self._peek() == "I"
        self.position += ignore_case
        return regular_expression(text, extended=self.extended, ignore_case=ignore_case)

    def _delimited(self, count: int) -> list[str]:
        """`count` stretches of text, each ended by the character that stands here."""
        mark = self._peek()
        if not mark or mark in "\n\\":
            self.fail()
        self.position += 1
        parts: list[str] = []
        for _ in range(count):
            part = ""
            while (character := self._peek()) != mark:
                if not character:
                    self.fail()
                self.position += 1
                if character == "\\":
                    following = self._peek()
                    self.position += 1
                    part += following if following == mark and mark not in "&" else "\\" + following
                elif character == "[" and not parts:
                    part += character + self._bracket()
                else:
                    part += character
            self.position += 1
            parts.append(part)
        return parts

    def _bracket(self) -> str:
        """The rest of a bracket expression, in which the delimiter means nothing."""
        match = re.compile(r"\^?\]?(?:\[:[a-z]+:\]|[^]\n])*\]").match(self.text, self.position)
        if not match:
            return ""
        self.position = match.end()
        return match.group()

    def _substitution(self, command: Command) -> None:
        old, command.replacement = self._delimited(2)
        match = re.compile(r"[gpiI0-9e]*").match(self.text, self.position)
        command.flags = match.group() if match else ""
        self.position += len(command.flags)
        command.pattern = regular_expression(old, extended=self.extended, ignore_case="i" in command.flags.lower())


def parse_substitution(text: str) -> tuple[str, str, str]:
    """Expression, replacement and flags of `s/old/new/flags`, for tar."""
    match = re.fullmatch(r"s(.)((?:\\.|(?!\1).)*)\1((?:\\.|(?!\1).)*)\1([gixp]*)", text)
    if not match:
        raise Failure(f"bad transform '{text}'")
    return match.group(2), match.group(3), match.group(4)


def expand_replacement(text: str, match: re.Match[str]) -> str:
    """What a replacement stands for at a match: `&`, `\\1`, `\\n`."""

    def piece(found: re.Match[str]) -> str:
        if found.group() == "&":
            return match.group()
        character: str = found.group(1)
        if character.isdigit():
            if int(character) > (match.re.groups or 0):
                raise Failure(f"bad \\{character}")
            return match.group(int(character)) or ""
        return {"n": "\n", "t": "\t"}.get(character, character)

    return re.sub(r"\\(.)|&", piece, text, flags=re.DOTALL)


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m.group(1), m.group(1)), text, flags=re.DOTALL)
