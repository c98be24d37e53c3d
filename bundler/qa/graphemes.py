"""Widens spans to whole graphemes: letters with their marks, flags, joined emoji."""

from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

GRAPHEME = r"\X"
# all other characters stand alone; a character class is enough, except for scripts of South and Southeast Asia
MAY_JOIN = r"[^\p{GCB=Other}\p{GCB=Control}\p{GCB=LF}]|[\u0900-\u1cff\ua800-\uabff\U00010000-\U0010ffff]"
Places = npt.NDArray[np.int32]


def widened(text: str, spans: Places) -> Places:
    """Widens the spans (..., 2) of the text's characters to whole graphemes at both ends.

    Keeps -1.
    """
    if text.isascii():  # except for CR LF, which no word contains, each character is a grapheme
        return spans
    reach = _reach(text)
    return spans if reach is None else reach[spans, (0, 1)]


@cache
def pattern(of: str) -> Any:
    """Returns the compiled pattern. Imports regex only here, since not every command decodes texts."""
    import regex

    return regex.compile(of)


@lru_cache(maxsize=8)  # the questions of a text follow each other
def _reach(text: str) -> Places | None:
    """Returns (characters + 2, 2): for each place, the last grapheme start at or before it and the first grapheme end
    at or after it; the last row, for index -1, is -1. None if each character is a grapheme."""
    if pattern(MAY_JOIN).search(text) is None:  # much faster than iterating over the graphemes
        return None
    edges = np.array([0, *(found.end() for found in pattern(GRAPHEME).finditer(text))], np.int32)
    if len(edges) == len(text) + 1:
        return None
    places = np.arange(len(text) + 1)
    begins, ends = edges[np.searchsorted(edges, places, "right") - 1], edges[np.searchsorted(edges, places)]
    return np.append(np.stack((begins, ends), axis=1), np.full((1, 2), -1, np.int32), axis=0)
