"""What a shell script consists of once parsed. Knows nothing of how it is read or run."""

from dataclasses import dataclass


class ShellSyntaxError(Exception):
    """The script cannot be parsed; the text is mksh's."""


@dataclass(frozen=True)
class Text:
    """Characters of a word as they are; unquoted ones may be pathname patterns."""

    text: str
    quoted: bool


@dataclass(frozen=True)
class Parameter:
    """`$name` or `${name OPERATOR argument}`; the operator `length` stands for `${#name}`."""

    name: str
    quoted: bool
    operator: str = ""
    argument: "Word" = ()


@dataclass(frozen=True)
class Substitution:
    """`$(script)` or the same in backticks."""

    script: "Script"
    quoted: bool


@dataclass(frozen=True)
class Arithmetic:
    """`$((expression))`."""

    expression: "Word"
    quoted: bool


Part = Text | Parameter | Substitution | Arithmetic
Word = tuple[Part, ...]


@dataclass
class HereDocument:
    """The one node that is filled in late: its body follows the line that names it."""

    delimiter: str
    literal: bool
    strip_tabs: bool
    body: Word = ()


@dataclass(frozen=True)
class Redirection:
    """`fd OPERATOR target`; `text` is the target as written, for messages."""

    fd: int
    operator: str
    target: Word
    document: HereDocument | None = None


@dataclass(frozen=True)
class Simple:
    """A simple command: assignments, words and redirections, on the script's line `line`."""

    assignments: tuple[tuple[str, bool, Word], ...]
    words: tuple[Word, ...]
    redirections: tuple[Redirection, ...]
    line: int


@dataclass(frozen=True)
class Pipeline:
    """Commands joined by `|`."""

    commands: tuple["Command", ...]
    negated: bool = False


@dataclass(frozen=True)
class AndOr:
    """Pipelines joined by `&&` and `||`; each but the first comes with the operator before it."""

    first: "Command"
    rest: tuple[tuple[str, "Command"], ...]


@dataclass(frozen=True)
class Background:
    """`command &`."""

    command: "Command"


@dataclass(frozen=True)
class Script:
    """Commands one after another."""

    commands: tuple["Command", ...]


@dataclass(frozen=True)
class Redirected:
    """A compound command with redirections of its own."""

    command: "Command"
    redirections: tuple[Redirection, ...]


@dataclass(frozen=True)
class Group:
    """`{ body }`."""

    body: Script


@dataclass(frozen=True)
class Subshell:
    """`( body )`."""

    body: Script


@dataclass(frozen=True)
class If:
    """Conditions with their bodies in order, and what runs when none holds."""

    branches: tuple[tuple[Script, Script], ...]
    otherwise: Script | None


@dataclass(frozen=True)
class Loop:
    """`while` and, where `until`, its opposite."""

    condition: Script
    body: Script
    until: bool


@dataclass(frozen=True)
class For:
    """`for name in words`; over the positional parameters where `words` is None."""

    name: str
    words: tuple[Word, ...] | None
    body: Script


@dataclass(frozen=True)
class Case:
    """`case subject in`, with each clause's patterns, body and terminator (`;;` or `;&`)."""

    subject: Word
    clauses: tuple[tuple[tuple[Word, ...], Script, str], ...]


@dataclass(frozen=True)
class Function:
    """`name() body`."""

    name: str
    body: "Command"


@dataclass(frozen=True)
class Condition:
    """`[[ words ]]`; an operator is a word of one unquoted text."""

    words: tuple[Word, ...]


@dataclass(frozen=True)
class Evaluation:
    """`(( expression ))`."""

    expression: Word


Command = (
    Simple
    | Pipeline
    | AndOr
    | Background
    | Script
    | Redirected
    | Group
    | Subshell
    | If
    | Loop
    | For
    | Case
    | Function
    | Condition
    | Evaluation
)
