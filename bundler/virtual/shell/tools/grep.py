"""grep, egrep and fgrep."""

import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from bundler.virtual.shell.tools.base import Context, Failure, Options, Tool, parse
from bundler.virtual.shell.tools.regex import regular_expression

STANDARD_INPUT = "(standard input)"
LONG = {"quiet": "q", "silent": "q", "ignore-case": "i", "invert-match": "v", "count": "c", "line-number": "n"}
LONG |= {"extended-regexp": "E", "fixed-strings": "F", "only-matching": "o", "files-with-matches": "l"}
LONG |= {"line-regexp": "x", "word-regexp": "w", "regexp": "e", "file": "f", "max-count": "m", "no-messages": "s"}


def grep(argv: Sequence[str], context: Context) -> int:
    """`grep [-EFivnlLcoqswxhHrRazb] [-m count] [-A n] [-B n] [-C n] [-e pattern] [-f file] [pattern] [path...]`."""
    options = parse(argv, "EFGivnlLcoqswxhHrRazbZI", "mefABC", long=LONG)
    operands = list(options.operands)
    texts = [line for value in options.values.get("e", []) for line in value.split("\n")]
    for path in options.values.get("f", []):
        with context.reading(path) as file:
            texts += _decoded(file.read()).splitlines()
    if "e" not in options and "f" not in options:
        if not operands:
            raise Failure("no REGEX")
        texts = operands.pop(0).split("\n")
    recursive = "r" in options or "R" in options
    search = _Search(options, context, _patterns(texts, options, context.name))
    search.named = ("H" in options or len(operands) > 1 or recursive) and "h" not in options
    paths = list(_files(operands or ["."], context)) if recursive else operands or ["-"]
    for path, file in _inputs(paths, options, context):
        search.file(path, file)
        if search.found and "q" in options:
            return 0
    if context.failed:
        return 2
    return int(not search.found)


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _patterns(texts: list[str], options: Options, name: str) -> list[re.Pattern[str]]:
    fixed, extended = "F" in options or name == "fgrep", "E" in options or name == "egrep"
    ignore_case = "i" in options
    if not fixed:
        return [regular_expression(text, extended=extended, ignore_case=ignore_case) for text in texts]
    return [re.compile(re.escape(text), re.IGNORECASE if ignore_case else 0) for text in texts]


def _files(paths: Sequence[str], context: Context) -> Iterator[str]:
    """The files at and below the paths; links and devices found on the way are left out."""
    for path in paths:
        if not context.is_folder(path):
            yield path
            continue
        for name in context.names(path):
            child = f"{path.rstrip('/')}/{name}"
            if stat.S_IFMT(context.lstat(child).st_mode) in (stat.S_IFREG, stat.S_IFDIR):
                yield from _files([child], context)


def _inputs(paths: Sequence[str], options: Options, context: Context) -> Iterator[tuple[str, BinaryIO]]:
    for path in paths:
        try:
            with context.reading(path) as file:
                yield (STANDARD_INPUT if path == "-" else path), file
        except OSError as error:
            if "s" in options:
                context.failed.append(2)
            else:
                context.complain(f"{path}: {error.strerror}")


@dataclass
class _Search:
    options: Options
    context: Context
    patterns: list[re.Pattern[str]]
    named: bool = False
    found: bool = False
    before: list[tuple[int, bytes]] = field(default_factory=list)
    after: int = 0
    last_shown: int = 0

    def matches(self, line: str) -> list[re.Match[str]]:
        """Where the line matches, in order and without overlaps."""
        if "x" in self.options:
            return [match for pattern in self.patterns if (match := pattern.fullmatch(line))]
        found: list[re.Match[str]] = []
        position = 0
        while position <= len(line):
            candidates = [match for pattern in self.patterns if (match := self._at_word(pattern, line, position))]
            if not candidates:
                break
            best = min(candidates, key=lambda match: (match.start(), -match.end()))
            found.append(best)
            if "o" not in self.options:
                break
            position = best.end() + (best.end() == best.start())
        return found

    def _at_word(self, pattern: re.Pattern[str], line: str, position: int) -> re.Match[str] | None:
        while match := pattern.search(line, position):
            around = line[match.start() - 1 : match.start()] if match.start() else ""
            if "w" not in self.options or not (_is_word(around) or _is_word(line[match.end() : match.end() + 1])):
                return match
            position = match.start() + 1
        return None

    def file(self, path: str, file: BinaryIO) -> None:
        """Searches one file and prints what the options ask for."""
        options, out = self.options, self.context.out
        end = b"\0" if "z" in options else b"\n"
        limit = options.number("m", -1)
        count, self.last_shown, self.after, self.before = 0, 0, 0, []
        lines = file.read().split(end) if "z" in options else file
        for index, raw in enumerate(lines, 1):
            if limit == count:
                break
            if "z" in options and not raw:
                continue
            line = raw.removesuffix(end)
            matches = self.matches(_decoded(line))
            if bool(matches) == ("v" in options):
                self._context_line(index, line, path)
                continue
            self.found = True
            count += 1
            if "q" in options or "l" in options or "L" in options:
                break
            if "c" not in options:
                self._show(index, line, path, matches)
        name = path.encode("utf-8", "surrogateescape")
        if "c" in options and "q" not in options:
            out.line(f"{path}:{count}" if self.named else str(count))
        if "q" not in options and (("l" in options and count) or ("L" in options and not count)):
            out.write(name + (b"\0" if "Z" in options else b"\n"))

    def _show(self, index: int, line: bytes, path: str, matches: list[re.Match[str]]) -> None:
        for number, text in self.before:
            self._line(number, text, path, "-")
        self.before = []
        self.after = self.options.number("A", self.options.number("C", 0))
        if "o" in self.options:
            for match in matches:
                if match.group():
                    self._line(index, match.group().encode("utf-8", "surrogateescape"), path, ":")
        else:
            self._line(index, line, path, ":")

    def _context_line(self, index: int, line: bytes, path: str) -> None:
        """A line that does not match: shown after one that does, or kept for one that may follow."""
        if "q" in self.options or "c" in self.options or "l" in self.options:
            return
        if self.after > 0:
            self.after -= 1
            self._line(index, line, path, "-")
            return
        keep = self.options.number("B", self.options.number("C", 0))
        self.before = [*self.before, (index, line)][-keep:] if keep else []

    def _line(self, index: int, line: bytes, path: str, mark: str) -> None:
        around = any(letter in self.options for letter in "ABC")
        if around and self.last_shown and index > self.last_shown + 1:
            self.context.out.line("--")
        self.last_shown = index
        head = f"{path}{mark}" * self.named + f"{index}{mark}" * ("n" in self.options)
        end = b"\0" if "z" in self.options else b"\n"
        self.context.out.write(head.encode("utf-8", "surrogateescape") + line + end)


def _is_word(text: str) -> bool:
    return text.isalnum() or text == "_"


TOOLS: dict[str, Tool] = {"egrep": grep, "fgrep": grep, "grep": grep}
