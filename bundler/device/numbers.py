"""What a phone wrote as a number."""

import re

WHOLE = re.compile(r"\d{1,19}", re.ASCII)


def whole(text: str) -> int | None:
    """The number, if it is a whole one of up to 19 digits, which nanoseconds since 1970 have."""
    return int(text) if WHOLE.fullmatch(text) else None
