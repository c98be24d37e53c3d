"""Shell arithmetic on 32 bits with wrap-around, as mksh does it."""

import re
from collections.abc import Callable

from bundler.virtual.shell.state import ShellError, State

TOKEN = re.compile(
    r"\s*(?:([0-9]+#[0-9A-Za-z]+|0[xX][0-9A-Fa-f]+|[0-9]+)|([A-Za-z_][A-Za-z0-9_]*)"
    r"|(<<=|>>=|\+\+|--|&&|\|\||<<|>>|<=|>=|==|!=|[-+*/%&|^]=|[-+*/%<>=!~&|^?:,()]))"
)
LEVELS: tuple[tuple[str, ...], ...] = (("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="))
LEVELS += (("<=", ">=", "<", ">"), ("<<", ">>"), ("+", "-"), ("*", "/", "%"))
ASSIGNMENTS = frozenset(("=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="))
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "&": lambda a, b: a & b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<<": lambda a, b: a << (b & 31),
    ">>": lambda a, b: a >> (b & 31),
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
MAX_DEPTH = 50


def wrap(value: int) -> int:
    """`value` as a signed number of 32 bits."""
    return (value + 0x80000000) % 0x100000000 - 0x80000000


def number(text: str) -> int:
    """The value of a literal: decimal, 0x... or BASE#DIGITS.

    Raises:
        ValueError: if it is none.
    """
    if not text.isascii() or "_" in text:  # Python would take them
        raise ValueError(text)
    if "#" in text:
        base, digits = text.split("#", 1)
        return wrap(int(digits, int(base)))
    octal = len(text) > 1 and text[0] == "0" and text.isdigit()
    return wrap(int(text, 16) if text[:2] in ("0x", "0X") else int(text, 8 if octal else 10))


def evaluate(expression: str, state: State, depth: int = 0) -> int:
    """The value of `expression`; assignments in it are made.

    Raises:
        ShellError: where it is malformed.
    """
    return _Evaluation(expression, state, depth).value() if expression.strip() else 0


class _Evaluation:
    def __init__(self, expression: str, state: State, depth: int) -> None:
        self.expression = expression
        self.state = state
        self.depth = depth
        self.live = True
        self.tokens: list[str] = []
        position = 0
        stripped = expression.rstrip()
        while position < len(stripped):
            match = TOKEN.match(stripped, position)
            if not match:
                self.fail(f"unexpected '{stripped[position:].lstrip()[:1]}'")
            else:
                self.tokens.append(match.group().strip())
                position = match.end()
        self.index = 0

    def fail(self, reason: str) -> None:
        raise ShellError(f"{self.expression}: {reason}")

    def peek(self) -> str:
        return self.tokens[self.index] if self.index < len(self.tokens) else ""

    def accept(self, *tokens: str) -> str:
        token = self.peek()
        if token and token in tokens:
            self.index += 1
            return token
        return ""

    def value(self) -> int:
        result = self.comma()
        if self.peek():
            self.fail(f"unexpected '{self.peek()}'")
        return result

    def comma(self) -> int:
        result = self.assignment()
        while self.accept(","):
            result = self.assignment()
        return result

    def assignment(self) -> int:
        name = self.peek()
        following = self.tokens[self.index + 1] if self.index + 1 < len(self.tokens) else ""
        if not _is_name(name) or following not in ASSIGNMENTS:
            return self.conditional()
        self.index += 2
        value = self.assignment()
        if following != "=":
            value = self.apply(following[:-1], self.variable(name), value)
        return self.assign(name, value)

    def assign(self, name: str, value: int) -> int:
        if self.live:
            self.state.set(name, str(wrap(value)))
        return wrap(value)

    def conditional(self) -> int:
        condition = self.binary(0)
        if not self.accept("?"):
            return condition
        chosen = self.guarded(self.assignment, live=bool(condition))
        if not self.accept(":"):
            self.fail("missing ':'")
        other = self.guarded(self.assignment, live=not condition)
        return chosen if condition else other

    def guarded(self, parse: Callable[[], int], *, live: bool) -> int:
        before, self.live = self.live, self.live and live
        try:
            return parse()
        finally:
            self.live = before

    def binary(self, level: int) -> int:
        if level == len(LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while operator := self.accept(*LEVELS[level]):
            if operator in ("||", "&&"):
                wanted = bool(left) is (operator == "&&")
                right = self.guarded(lambda: self.binary(level + 1), live=wanted)
                left = int(bool(right)) if wanted else int(operator == "||")
            else:
                left = self.apply(operator, left, self.binary(level + 1))
        return left

    def apply(self, operator: str, left: int, right: int) -> int:
        if operator not in ("/", "%"):
            return wrap(int(OPERATIONS[operator](left, right)))
        if right == 0:
            if self.live:
                self.fail("zero divisor")
            return 0
        quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
        return wrap(quotient if operator == "/" else left - quotient * right)

    def unary(self) -> int:
        if operator := self.accept("-", "+", "!", "~"):
            value = self.unary()
            return wrap({"-": -value, "+": value, "!": int(not value), "~": ~value}[operator])
        if operator := self.accept("++", "--"):
            name = self.peek()
            if not _is_name(name):
                self.fail("not an lvalue")
            self.index += 1
            return self.assign(name, self.variable(name) + (1 if operator == "++" else -1))
        return self.primary()

    def primary(self) -> int:
        token = self.peek()
        self.index += 1
        if token == "(":
            value = self.comma()
            if not self.accept(")"):
                self.fail("missing ')'")
            return value
        if _is_name(token):
            value = self.variable(token)
            if operator := self.accept("++", "--"):
                self.assign(token, value + (1 if operator == "++" else -1))
            return value
        if not token[:1].isdigit():
            self.fail(f"unexpected '{token}'" if token else "unexpected end of expression")
        try:
            return number(token)
        except ValueError:
            self.fail(f"bad number '{token}'")
            return 0

    def variable(self, name: str) -> int:
        text = self.state.get(name)
        if not text:
            return 0
        try:
            return number(text.strip())
        except ValueError:
            if self.depth > MAX_DEPTH:
                self.fail("recursive")
            return evaluate(text, self.state, self.depth + 1)


def _is_name(token: str) -> bool:
    return token[:1].isalpha() or token[:1] == "_"
