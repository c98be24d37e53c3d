"""The ids that were there before, at a few dozen bytes each."""

from bisect import bisect_left

import numpy as np

FEWEST = 1 << 16


class Seen:
    """A set of ids by their hashes: what was not added is rarely taken for one that was."""

    def __init__(self) -> None:
        self._sorted = memoryview(b"").cast("q")
        self._recent: set[int] = set()

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)

    def add(self, key: str) -> bool:
        """Adds an id; whether it seems to have been there before."""
        value = hash(key)
        place = bisect_left(self._sorted, value)
        if value in self._recent or (place < len(self._sorted) and self._sorted[place] == value):
            return True
        self._recent.add(value)
        if len(self._recent) > max(FEWEST, len(self._sorted) // 8):
            recent = np.fromiter(self._recent, np.int64, len(self._recent))
            self._sorted = np.sort(np.concatenate((np.asarray(self._sorted, np.int64), recent))).data
            self._recent = set()
        return False
