"""Expansion of words: parameters, substitutions, arithmetic, field splitting, pathnames. Runs no command itself."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bundler.virtual.shell import patterns
from bundler.virtual.shell.arithmetic import evaluate
from bundler.virtual.shell.state import ShellError, State
from bundler.virtual.shell.syntax import Arithmetic, Parameter, Part, Script, Substitution, Text, Word

Fragment = tuple[str, bool]
"""A piece of a field and whether it was quoted."""


@dataclass
class Fields:
    """The fields of a word in the making."""

    separators: str
    done: list[list[Fragment]] = field(default_factory=list)
    current: list[Fragment] | None = None
    after_blank: bool = False

    def add(self, text: str, *, quoted: bool) -> None:
        if text or quoted:
            self.current = [*(self.current or []), (text, quoted)]
            self.after_blank = False

    def end(self) -> None:
        if self.current is not None:
            self.done.append(self.current)
        self.current = None

    def split(self, text: str) -> None:
        """Adds the result of an unquoted expansion."""
        start = 0
        for index, character in enumerate(text):
            if character not in self.separators:
                continue
            self.add(text[start:index], quoted=False)
            start = index + 1
            if character in " \t\n":
                self.after_blank = self.after_blank or self.current is not None
                self.end()
            else:
                if self.current is None and not self.after_blank:
                    self.current = []
                self.after_blank = False
                self.end()
        self.add(text[start:], quoted=False)


class Expander:
    """Expands words with a shell's state; `output_of` runs a script for its output."""

    def __init__(self, state: State, output_of: Callable[[Script], str]) -> None:
        self.state = state
        self.output_of = output_of

    def fields(self, words: Iterable[Word]) -> list[str]:
        """The words fully expanded: none, one or several fields each."""
        result: list[str] = []
        for word in words:
            result.extend(self._word_fields(word))
        return result

    def _word_fields(self, word: Word) -> list[str]:
        separators = self.state.variables.get("IFS", " \t\n")
        fields = Fields(separators)
        for part in self._tilde(word):
            self._add(part, fields)
        fields.end()
        result: list[str] = []
        for fragments in fields.done:
            pattern = _pattern(fragments)
            found: list[str] = []
            if patterns.is_pattern(pattern) and "noglob" not in self.state.options:
                found = patterns.paths(pattern, self.state.machine.storage, self.state.cwd)
            result.extend(found or ["".join(text for text, _ in fragments)])
        return result

    def text(self, word: Word, *, assignment: bool = False) -> str:
        """The word as one string, neither split nor matched with files."""
        return "".join(text for text, _ in self._fragments(word, assignment=assignment))

    def pattern(self, word: Word) -> str:
        """The word as a shell pattern: what is quoted in it stands for itself."""
        return _pattern(self._fragments(word))

    def _fragments(self, word: Word, *, assignment: bool = False) -> list[Fragment]:
        result: list[Fragment] = []
        for part in self._tilde(word, assignment=assignment):
            if isinstance(part, Text):
                result.append((part.text, part.quoted))
            elif isinstance(part, Parameter):
                result.extend(self._parameter_fragments(part))
            else:
                result.append((self._output(part), part.quoted))
        return result

    def _parameter_fragments(self, part: Parameter) -> list[Fragment]:
        value, argument = self._parameter(part)
        if argument is not None:
            return [(text, quoted or part.quoted) for text, quoted in self._fragments(argument)]
        if part.name == "*" and part.operator == "" and part.quoted:
            value = self._star()
        return [(value or "", part.quoted)]

    def _tilde(self, word: Word, *, assignment: bool = False) -> Word:
        """The word with a leading `~` replaced (in an assignment, after each colon too)."""
        first = word[0] if word else None
        if not isinstance(first, Text) or first.quoted or "~" not in first.text:
            return word
        home = self.state.get("HOME") or "/"
        pieces = first.text.split(":") if assignment else [first.text]
        parts: list[Part] = []
        for index, piece in enumerate(pieces):
            ends = index == len(pieces) - 1 and len(word) > 1
            if index:
                parts.append(Text(":", quoted=False))
            if piece.startswith("~/") or (piece == "~" and not ends):
                parts += [Text(home, quoted=True), Text(piece[1:], quoted=False)]
            else:
                parts.append(Text(piece, quoted=False))
        return (*parts, *word[1:])

    def _add(self, part: Part, fields: Fields) -> None:
        if isinstance(part, Text):
            fields.add(part.text, quoted=part.quoted)
        elif isinstance(part, Parameter):
            self._add_parameter(part, fields)
        elif part.quoted:
            fields.add(self._output(part), quoted=True)
        else:
            fields.split(self._output(part))

    def _add_parameter(self, part: Parameter, fields: Fields) -> None:
        value, argument = self._parameter(part)
        if argument is not None:
            for inner in self._tilde(argument):
                unquoted = isinstance(inner, Text) and not inner.quoted and not part.quoted
                if unquoted and isinstance(inner, Text):
                    fields.split(inner.text)
                else:
                    self._add(inner, fields)
            if part.quoted and not argument:
                fields.add("", quoted=True)
        elif part.name in ("@", "*") and part.operator != "length" and value is not None:
            self._add_all(part, fields)
        elif part.quoted:
            if part.name != "@" or part.operator == "length":
                fields.add(value or "", quoted=True)
        else:
            fields.split(value or "")

    def _add_all(self, part: Parameter, fields: Fields) -> None:
        """Adds `$@` or `$*`, which take no operator."""
        values = self.state.positional
        if part.operator in ("#", "##", "%", "%%", ":", "/", "//"):
            raise ShellError(f"${{{part.name}{part.operator}...}}: bad substitution")
        if part.name == "*" and part.quoted:
            fields.add(self._star(values), quoted=True)
            return
        for index, value in enumerate(values):
            if index:
                fields.end()
            if part.quoted:
                fields.add(value, quoted=True)
            else:
                fields.split(value)

    def _star(self, values: list[str] | None = None) -> str:
        separator = self.state.variables.get("IFS", " ")[:1]
        return separator.join(self.state.positional if values is None else values)

    def _output(self, part: Substitution | Arithmetic) -> str:
        if isinstance(part, Arithmetic):
            return str(evaluate(self.text(part.expression), self.state))
        return self.output_of(part.script)

    def _parameter(self, part: Parameter) -> tuple[str | None, Word | None]:
        """The parameter's value with its operator applied, or the argument that takes its place."""
        value = self.state.get(part.name)
        operator = part.operator
        missing = value is None or (operator.startswith(":") and not value)
        if operator[-1:] in ("-", "=", "?", "+") and operator:
            return self._default(part, value, missing=missing)
        if value is None and "nounset" in self.state.options and part.name not in ("@", "*"):
            raise ShellError(f"{part.name}: parameter not set")
        if operator == "length":
            if part.name in ("@", "*"):
                return str(len(self.state.positional)), None
            return str(len(value or "")), None
        if operator and value and part.name not in ("@", "*"):
            return self._edited(part, value), None
        return value, None

    def _default(self, part: Parameter, value: str | None, *, missing: bool) -> tuple[str | None, Word | None]:
        kind = part.operator[-1]
        if kind == "+":
            return (None, ()) if missing else (None, part.argument)
        if not missing:
            return value, None
        if kind == "-":
            return None, part.argument
        if kind == "=":
            if not (part.name[0].isalpha() or part.name[0] == "_"):
                raise ShellError(f"{part.name}: cannot assign")
            self.state.set(part.name, self.text(part.argument))
            return self.state.get(part.name), None
        raise ShellError(f"{part.name}: {self.text(part.argument) or 'parameter null or not set'}")

    def _edited(self, part: Parameter, value: str) -> str:
        if part.operator == ":":
            offset, length = self._slice(part.argument)
            start = max(len(value) + offset, 0) if offset < 0 else offset
            if length is None:
                return value[start:]
            return value[start : len(value) + length if length < 0 else start + length]
        if part.operator in ("/", "//"):
            old, new = self._replacement(part.argument)
            return patterns.replace(value, old, new, everywhere=part.operator == "//")
        return patterns.remove(value, self.pattern(part.argument), part.operator)

    def _slice(self, argument: Word) -> tuple[int, int | None]:
        offset, colon, length = self.text(argument).partition(":")
        return evaluate(offset, self.state), evaluate(length, self.state) if colon else None

    def _replacement(self, argument: Word) -> tuple[str, str]:
        """The pattern and the replacement of `${x/pattern/replacement}`."""
        for index, part in enumerate(argument):
            if isinstance(part, Text) and not part.quoted and "/" in part.text:
                before, _, after = part.text.partition("/")
                old = (*argument[:index], Text(before, quoted=False))
                return self.pattern(old), self.text((Text(after, quoted=True), *argument[index + 1 :]))
        return self.pattern(argument), ""


def _pattern(fragments: Iterable[Fragment]) -> str:
    return "".join(patterns.escape(text) if quoted else text for text, quoted in fragments)
