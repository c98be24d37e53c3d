"""What a reader takes for one character may be several: a letter and its marks, a flag, an emoji that is joined."""

from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

GRAPHEME = r"\X"
# all others stand alone: a class of characters tells it, but not of the letters of South and Southeast Asia
MAY_JOIN = r"[^\p{GCB=Other}\p{GCB=Control}\p{GCB=LF}]|[\u0900-\u1cff\ua800-\uabff\U00010000-\U0010ffff]"
Places = npt.NDArray[np.int32]


def widened(text: str, spans: Places) -> Places:
    """The spans (..., 2) of the text's characters, each as far as the graphemes reach that it begins and ends in.

    -1 stays -1.
    """
    if text.isascii():  # but for CR LF, which no word holds, each character is one
        return spans
    reach = _reach(text)
    return spans if reach is None else reach[spans, (0, 1)]


@cache
def pattern(of: str) -> Any:
    """The compiled pattern; who decodes no text does without it, and without importing regex."""
    import regex

    return regex.compile(of)


@lru_cache(maxsize=8)  # the questions of a text follow each other
def _reach(text: str) -> Places | None:
    """(characters + 2, 2): for each place the last beginning and the first end of a grapheme that are not beyond it;
    the last row, which -1 means, is -1. None where each character is one."""
    if pattern(MAY_JOIN).search(text) is None:  # much faster than to go from one grapheme to the next
        return None
    edges = np.array([0, *(found.end() for found in pattern(GRAPHEME).finditer(text))], np.int32)
    if len(edges) == len(text) + 1:
        return None
    places = np.arange(len(text) + 1)
    begins, ends = edges[np.searchsorted(edges, places, "right") - 1], edges[np.searchsorted(edges, places)]
    return np.append(np.stack((begins, ends), axis=1), np.full((1, 2), -1, np.int32), axis=0)
