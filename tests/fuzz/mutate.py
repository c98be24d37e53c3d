"""Mutates valid inputs: their bytes, their JSON document, or their lines."""

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from random import Random
from typing import Any

Mutator = Callable[[bytes, Random], bytes]

ODD_TEXTS = (
    "", "0", "-1", "\u00b2", "1_0", "9" * 5000, "NaN", "\0", "\n", "\r", "\udc80", "\ud83d", "\u202e", "e\u0301",
    "../x", "/etc/passwd", "a" * 300, "'", '"', "$(id)", "%s", "\u2028",
)  # fmt: skip
ODD_NUMBERS = (0, 1, -1, 255, 2**31, 2**32 - 1, 2**63, -(2**63), 10**30, 1.5, -0.0, 1e308, float("nan"), float("inf"))
ODD_VALUES: tuple[Any, ...] = (None, True, False, [], {}, [[]], *ODD_TEXTS, *ODD_NUMBERS)
LONGEST = 1 << 16


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """Applies a few flips, cuts, repetitions, numbers and insertions."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        at = random.randrange(len(changed) + 1)
        size = min(random.choice((1, 1, 2, 4, 8, 64)), len(changed) - at)
        kind = random.randrange(7)
        if kind == 0 and size:
            changed[at] ^= 1 << random.randrange(8)
        elif kind == 1 and size:
            changed[at : at + size] = random.randbytes(size)
        elif kind == 2:
            del changed[at : at + size]
        elif kind == 3:
            changed[at:at] = changed[at : at + size] * random.choice((1, 2, 50))
        elif kind == 4:
            number = random.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1))
            width = random.choice((1, 2, 4, 8))
            changed[at : at + width] = (number & (1 << 8 * width) - 1).to_bytes(width, random.choice(("little", "big")))
        elif kind == 5:
            changed[at:at] = random.choice(ODD_TEXTS).encode(errors="surrogatepass")
        else:
            there = random.randrange(len(changed) + 1)
            changed[at:at] = changed[there : there + random.choice((1, 8, 64, 512))]
    return bytes(changed[:LONGEST])


def mutate_json(data: bytes, random: Random) -> bytes:
    """Replaces, removes, moves or repeats some values of the document; sometimes mutates its bytes."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(data, random)
    if random.randrange(8) == 0:
        return mutate_bytes(data, random)
    for _ in range(random.choice((1, 1, 2, 3))):
        value = _changed(value, random)
    return json.dumps(value, ensure_ascii=random.random() < 0.5).encode(errors="surrogatepass")[:LONGEST]


def _changed(value: Any, random: Random) -> Any:
    """Changes one place in the value."""
    if not isinstance(value, dict | list) or not value or random.randrange(6) == 0:
        return deepcopy(random.choice([*ODD_VALUES, [value], {"text": value}, str(value), [value] * 3]))
    keys: Sequence[Any] = list(value) if isinstance(value, dict) else range(len(value))
    key = random.choice(keys)
    kind = random.randrange(8)
    if kind == 0:
        del value[key]
    elif kind == 1 and isinstance(value, dict):
        value[random.choice([*keys, *(text for text in ODD_TEXTS if len(text) < 400)])] = value[key]
    elif kind == 1:
        value[key:key] = [value[key]]
    elif kind == 2:
        value[key] = value[random.choice(keys)]
    else:
        value[key] = _changed(value[key], random)
    return value


def first_line_kept(mutator: Mutator) -> Mutator:
    """Returns a mutator that keeps the first line, which describes the rest."""

    def mutate(data: bytes, random: Random) -> bytes:
        head, end, rest = data.partition(b"\n")
        return head + end + mutator(rest, random)

    return mutate


def mutate_json_lines(data: bytes, random: Random) -> bytes:
    """Mutates one of the lines as JSON, or the lines as bytes."""
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    if random.randrange(4) == 0:
        return mutate_bytes(data, random)
    lines[at] = mutate_json(lines[at], random)
    return b"\n".join(lines)[:LONGEST]
