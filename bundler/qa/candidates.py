"""Finds the best spans of many windows at once. Works on tokens, scores and offsets, not on texts."""

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Offsets = npt.NDArray[np.int32]
LOWEST = np.finfo(np.float64).min


def best_spans(
    start: Floats, end: Floats, offsets: Offsets, max_tokens: int, count: int
) -> tuple[Floats, Integers, Integers, Integers]:
    """Returns the best spans of each window, sorted by window, first and last token.

    start, end: (windows, length); offsets: (windows, length, 2), -1 outside the context. Returns score, window, first
    and last token of each span. Includes at least each window's `count` best spans with different characters.
    """
    begins, stops = offsets[:, :, 0], offsets[:, :, 1]
    count, width = min(count, start.shape[1]), min(max_tokens, start.shape[1])
    inside = begins >= 0
    holds = inside & (stops > begins)  # an answer cannot end at a lone space, which is a token in ALBERT
    start = np.where(inside, start, -np.inf)
    ends = np.full((len(end), end.shape[1] + width - 1), -np.inf)
    np.copyto(ends[:, : end.shape[1]], end, where=holds)
    tops = start + _running_maximum(ends, width)  # the best span that starts at each token
    least, among = _best_starts(tops, begins, count)
    window, first = np.nonzero(among)
    scores = start[window, first][:, None] + sliding_window_view(ends, width, axis=1)[window, first]
    row, further = np.nonzero(scores >= least[window][:, None])
    return scores[row, further], window[row], first[row], first[row] + further


def _best_starts(tops: Floats, begins: Offsets, count: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Returns (windows,): the count-th best score among starts at different characters, the lowest needed; and
    (windows, length): where the best spans start. Prefers earlier spans among equals: a model may score all alike."""
    differ = np.ones(tops.shape, bool)
    np.not_equal(begins[:, 1:], begins[:, :-1], out=differ[:, 1:])
    worst = np.partition(np.where(differ, -tops, np.inf), count - 1, axis=1)[:, count - 1]  # faster from this end
    least = np.maximum(-worst, LOWEST)
    equal = tops == least[:, None]
    enough = np.cumsum(equal & differ, axis=1, dtype=np.int32) > count
    return least, (tops >= least[:, None]) & ~(equal & enough)


def _running_maximum(values: Floats, width: int) -> Floats:
    """Returns the maximum of each `width` neighbours; values: (rows, n), returns (rows, n - width + 1)."""
    reach, most = 1, values  # most[i] is the largest of values[i : i + reach]
    while 2 * reach <= width:
        most = np.maximum(most[:, :-reach], most[:, reach:])
        reach *= 2
    rest = width - reach
    return np.maximum(most[:, :-rest], most[:, rest:]) if rest else most
