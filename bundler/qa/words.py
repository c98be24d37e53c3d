"""Finds whole words, as BERT's tokenizer divides texts: at white space, punctuation and Chinese characters."""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundler.qa.graphemes import pattern

CHINESE = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f"
WORD = rf"[^\s\p{{P}}\p{{C}}$+<=>^`|~{CHINESE}]{{2,}}"
DIVIDES = "BertPreTokenizer"
Places = npt.NDArray[np.int32]


def to_whole_words(text: str, spans: Places) -> Places:
    """Widens the spans (..., 2) of the text's characters to whole words at both ends.

    Keeps -1.
    """
    return _reach(text)[spans, (0, 1)]


def tells_words(tokenizer: Path) -> bool:
    """Returns whether a tokenizer.json divides texts into words like BERT's; SentencePiece, for one, does not."""
    try:
        told = json.loads(tokenizer.read_text(encoding="utf-8"))["pre_tokenizer"]
        return any(each["type"] == DIVIDES for each in (told, *told.get("pretokenizers", ())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


@lru_cache(maxsize=8)  # the questions of a text follow each other
def _reach(text: str) -> Places:
    """Returns (characters + 2, 2): for each place, the start of the word that a span from there cuts, and the end of
    the word that a span up to there cuts; the last row, for index -1, is -1."""
    places = np.arange(len(text) + 2, dtype=np.int32)
    places[-1] = -1
    reach = np.stack((places, places), axis=1)
    for found in pattern(WORD).finditer(text):
        begin, end = found.span()
        reach[begin:end, 0] = begin
        reach[begin + 1 : end + 1, 1] = end
    return reach
