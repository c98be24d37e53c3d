"""Parses numbers that a phone wrote."""

import re

WHOLE = re.compile(r"\d{1,19}", re.ASCII)


def whole(text: str) -> int | None:
    """Parses a whole number of up to 19 digits, enough for nanoseconds since 1970; returns None for other text."""
    return int(text) if WHOLE.fullmatch(text) else None
