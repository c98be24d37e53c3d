"""`[[ ... ]]`: like test, without field splitting, with patterns."""

import re
from collections.abc import Callable

from bundler.virtual.shell import patterns
from bundler.virtual.shell.expand import Expander
from bundler.virtual.shell.launch import execute
from bundler.virtual.shell.state import ShellError, State
from bundler.virtual.shell.syntax import Condition, Text, Word
from bundler.virtual.shell.tools.base import Context, Failure
from bundler.virtual.shell.tools.testing import binary_test, unary_test

BINARY = re.compile(r"=|==|!=|<|>|-(eq|ne|lt|le|gt|ge|nt|ot|ef)")
UNARY = re.compile(r"-[a-zA-Z]")


def holds(condition: Condition, expander: Expander, state: State) -> bool:
    """Whether the condition is true.

    Raises:
        ShellError: where it is malformed.
    """
    context = Context(state.machine, state.cwd, {}, "[[", execute)
    evaluation = _Evaluation(list(condition.words), expander, context)
    try:
        result = evaluation.either()()
        if evaluation.words:
            raise Failure("unexpected operator/operand", 2)
    except Failure as error:
        raise ShellError(f"syntax error: {error.message}") from None
    return result


class _Evaluation:
    """Parses first and gives functions, so that `&&` and `||` expand no more than they need."""

    def __init__(self, words: list[Word], expander: Expander, context: Context) -> None:
        self.words = words
        self.expander = expander
        self.context = context

    def operator(self, offset: int = 0) -> str:
        word = self.words[offset] if offset < len(self.words) else ()
        only = word[0] if len(word) == 1 else None
        return only.text if isinstance(only, Text) and not only.quoted else ""

    def take(self) -> Word:
        if not self.words:
            raise Failure("expression expected", 2)
        return self.words.pop(0)

    def either(self) -> Callable[[], bool]:
        left = self.both()
        while self.operator() == "||":
            self.take()
            left = _or(left, self.both())
        return left

    def both(self) -> Callable[[], bool]:
        left = self.term()
        while self.operator() == "&&":
            self.take()
            left = _and(left, self.term())
        return left

    def term(self) -> Callable[[], bool]:
        if self.operator() == "!":
            self.take()
            inner = self.term()
            return lambda: not inner()
        if self.operator() == "(":
            self.take()
            inner = self.either()
            self.take()
            return inner
        if UNARY.fullmatch(self.operator()) and len(self.words) > 1 and not BINARY.fullmatch(self.operator(1)):
            option, operand = self.operator(), (self.take(), self.take())[1]
            return lambda: unary_test(option, self.expander.text(operand), self.context)
        left = self.take()
        operator = self.operator()
        if not BINARY.fullmatch(operator):
            return lambda: self.expander.text(left) != ""
        self.take()
        right = self.take()
        if operator in ("=", "==", "!="):
            wanted = operator != "!="
            return lambda: patterns.matches(self.expander.pattern(right), self.expander.text(left)) == wanted
        return lambda: binary_test(self.expander.text(left), operator, self.expander.text(right), self.context)


def _or(left: Callable[[], bool], right: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: left() or right()


def _and(left: Callable[[], bool], right: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: left() and right()
