"""Words as a shell would have to be given them."""

import re

PLAIN = re.compile(r"[A-Za-z0-9_@%+:,./-]+")


def quoted(text: str) -> str:
    """The word, in quotes where it needs them."""
    if PLAIN.fullmatch(text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"
