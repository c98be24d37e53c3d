"""Whole words of a text, as BERT's tokenizer divides it: at white space, punctuation and Chinese characters."""

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
    """The spans (..., 2) of the text's characters, each as far as the words reach that it begins and ends in.

    -1 stays -1.
    """
    return _reach(text)[spans, (0, 1)]


def tells_words(tokenizer: Path) -> bool:
    """Whether a tokenizer.json divides texts into words as BERT does; SentencePiece, for one, does not."""
    try:
        told = json.loads(tokenizer.read_text(encoding="utf-8"))["pre_tokenizer"]
        return any(each["type"] == DIVIDES for each in (told, *told.get("pretokenizers", ())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


@lru_cache(maxsize=8)  # the questions of a text follow each other
def _reach(text: str) -> Places:
    """(characters + 2, 2): for each place, where the word begins that a span from there is in, and where the word ends
    that a span up to there is in; the last row, which -1 means, is -1."""
    places = np.arange(len(text) + 2, dtype=np.int32)
    places[-1] = -1
    reach = np.stack((places, places), axis=1)
    for found in pattern(WORD).finditer(text):
        begin, end = found.span()
        reach[begin:end, 0] = begin
        reach[begin + 1 : end + 1, 1] = end
    return reach
