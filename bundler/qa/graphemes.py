"""What a reader takes for one character may be several: a letter and its marks, a flag, an emoji that is joined."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import regex

GRAPHEME = regex.compile(r"\X")


def widened(text: str, spans: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The spans (..., 2) of the text's characters, each as far as the graphemes reach that it begins and ends in.

    -1 stays -1.
    """
    if text.isascii():  # but for CR LF, which no word holds, each character is one
        return spans
    edges = _edges(text)
    first = edges[np.searchsorted(edges, spans[..., 0], "right") - 1]
    last = edges[np.searchsorted(edges, spans[..., 1], "left")]
    return np.where(spans >= 0, np.stack((first, last), axis=-1), -1)


@lru_cache(maxsize=8)  # the questions of a text follow each other
def _edges(text: str) -> npt.NDArray[np.int32]:
    """Where the text's graphemes begin and end, in order."""
    return np.array([0, *(found.end() for found in GRAPHEME.finditer(text))], np.int32)
