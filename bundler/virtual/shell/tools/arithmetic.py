"""Numbers: expr, seq."""

import re
from collections.abc import Sequence

from bundler.virtual.shell.tools.base import Context, Failure, Tool, parse
from bundler.virtual.shell.tools.regex import regular_expression

LEVELS = (("|",), ("&",), ("=", "==", "!=", "<", "<=", ">", ">="), ("+", "-"), ("*", "/", "%"), (":",))
ORDERS = {"=": (0,), "==": (0,), "!=": (-1, 1), "<": (-1,), "<=": (-1, 0), ">": (1,), ">=": (0, 1)}
INTEGER = re.compile(r"[-+]?[0-9]+")
NULL = ("", "0")


def expr(argv: Sequence[str], context: Context) -> int:
    """`expr` with | & = != < <= > >= + - * / % : and parentheses, on 64 bits."""
    words = list(argv[1:])
    if not words:
        raise Failure('Needs 1 argument (see "expr --help")', 2)
    value = _value(words, 0)
    if words:
        raise Failure("syntax error", 2)
    context.out.line(value)
    return int(value in NULL)


def _value(words: list[str], level: int) -> str:
    if level == len(LEVELS):
        return _operand(words)
    left = _value(words, level + 1)
    while words and words[0] in LEVELS[level]:
        operator = words.pop(0)
        left = _applied(left, operator, _value(words, level + 1))
    return left


def _operand(words: list[str]) -> str:
    if not words:
        raise Failure("syntax error", 2)
    word = words.pop(0)
    if word != "(":
        return word
    value = _value(words, 0)
    if not words or words.pop(0) != ")":
        raise Failure("syntax error", 2)
    return value


def _applied(left: str, operator: str, right: str) -> str:
    if operator == "|":
        return left if left not in NULL else right if right else "0"
    if operator == "&":
        return left if left not in NULL and right not in NULL else "0"
    if operator == ":":
        match = regular_expression(right, extended=False).match(left)
        if match is None:
            return "" if r"\(" in right else "0"
        return match.group(1) or "" if match.re.groups else str(len(match.group()))
    numeric = INTEGER.fullmatch(left) and INTEGER.fullmatch(right)
    if operator in ORDERS:
        order = _order(int(left), int(right)) if numeric else _order(left, right)
        return str(int(order in ORDERS[operator]))
    if not numeric:
        raise Failure("not integer", 2)
    a, b = int(left), int(right)
    if operator in "/%" and not b:
        raise Failure("division by zero", 2)
    quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1) if operator in "/%" else 0
    results = {"+": a + b, "-": a - b, "*": a * b, "/": quotient, "%": a - b * quotient}
    return str((results[operator] + (1 << 63)) % (1 << 64) - (1 << 63))


def _order(a: int | str, b: int | str) -> int:
    if isinstance(a, int) and isinstance(b, int):
        return (a > b) - (a < b)
    return (str(a) > str(b)) - (str(a) < str(b))


def seq(argv: Sequence[str], context: Context) -> int:
    """`seq [-w] [-f format] [-s separator] [first [increment]] last`."""
    arguments = [f" {a}" if re.fullmatch(r"-[0-9.]+", a) else a for a in argv]
    options = parse(arguments, "w", "fs", minimum=1, maximum=3)
    texts = [text.strip() for text in options.operands]
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        raise Failure(f"not float: {texts[0]}") from None
    first = numbers[0] if len(numbers) > 1 else 1.0
    step = numbers[1] if len(numbers) > 2 else 1.0
    last = numbers[-1]
    if step == 0:
        return 0
    digits = max((len(text.partition(".")[2]) for text in texts), default=0)
    count = int((last - first) / step + 1 + 1e-9)
    values = [f"{first + step * index:.{digits}f}" for index in range(max(count, 0))]
    if "f" in options:
        values = [options.value("f") % float(value) for value in values]
    elif "w" in options:
        width = max((len(value) for value in values), default=0)
        values = [value.zfill(width) for value in values]
    if values:
        context.out.line(options.value("s", "\n").join(values))
    return 0


TOOLS: dict[str, Tool] = {"expr": expr, "seq": seq}
