"""Keeps track of a run's chunks: who computes which, what is done, and the total progress. Thread-safe."""

import threading
from collections.abc import Iterable, Sequence
from itertools import accumulate, zip_longest

from bundler.bundle import Window
from bundler.device.chunks import Chunk


class Board:
    """The chunks of a run. A phone takes some; those of a lost phone are put back; the first to finish one counts.

    ends: from `ends_of`
    """

    def __init__(self, chunks: Sequence[Chunk], done: Iterable[Chunk], ends: Sequence[int]) -> None:
        self._all = frozenset(chunks)
        self._done = {chunk for chunk in done if chunk in self._all}
        self._free = [chunk for chunk in chunks if chunk not in self._done]
        self._held: dict[str, list[Chunk]] = {}
        self._begun: dict[str, tuple[Chunk, int]] = {}
        self._lock = threading.Lock()
        self._ends = ends
        self._answered = sum(map(self._ended_in, self._done))

    def __contains__(self, chunk: Chunk | None) -> bool:
        """Returns whether the chunk is on this board, done or not: a phone's job may have another host's chunks too."""
        return chunk in self._all

    @property
    def questions(self) -> int:
        return self._ends[-1]

    @property
    def complete(self) -> bool:
        with self._lock:
            return len(self._done) == len(self._all)

    @property
    def free(self) -> list[Chunk]:
        """Returns the chunks that no phone has taken, in order."""
        with self._lock:
            return [*self._free]

    def take(self, who: str, most: int | None) -> list[Chunk]:
        """Gives free chunks to a phone until it holds `most` (None: all free chunks); returns the given ones."""
        with self._lock:
            held = self._held.setdefault(who, [])
            count = len(self._free) if most is None else max(0, most - len(held))
            given, self._free = self._free[:count], self._free[count:]
            held += given
            return given

    def claim(self, who: str, chunks: Iterable[Chunk]) -> None:
        """Gives a phone the free ones of these chunks, which it has already computed or begun."""
        with self._lock:
            claimed = set(chunks) & set(self._free)
            self._free = [chunk for chunk in self._free if chunk not in claimed]
            self._held.setdefault(who, []).extend(sorted(claimed))

    def held(self, who: str) -> list[Chunk]:
        """Returns the chunks that a phone has taken and not finished, in order."""
        with self._lock:
            return sorted(self._held.get(who, []))

    def wants(self, chunk: Chunk) -> bool:
        """Returns whether the chunk's outputs are still needed."""
        with self._lock:
            return chunk in self._all and chunk not in self._done

    def finish(self, chunk: Chunk) -> None:
        """Marks a chunk as done, for every phone that holds it."""
        with self._lock:
            self._answered += 0 if chunk in self._done else self._ended_in(chunk)
            self._done.add(chunk)
            self._free = [free for free in self._free if free != chunk]
            for held in self._held.values():
                if chunk in held:
                    held.remove(chunk)

    def put_back(self, who: str) -> None:
        """Frees the chunks of a lost phone."""
        with self._lock:
            self._free = sorted({*self._free, *self._held.pop(who, [])} - self._done)
            self._begun.pop(who, None)

    def report(self, who: str, chunk: Chunk | None, begun: int) -> int:
        """Records how many windows of its chunk a phone has begun; returns how many questions are done in total."""
        with self._lock:
            if chunk is None or chunk not in self._all:  # a phone may say anything
                self._begun.pop(who, None)
            else:
                self._begun[who] = (chunk, min(max(begun - 1, 0), len(chunk)))
            partly = {chunk: count for chunk, count in self._begun.values() if chunk not in self._done}
            return self._answered + sum(self._ended_in(Chunk(c.start, c.start + n)) for c, n in partly.items())

    def _ended_in(self, chunk: Chunk) -> int:
        return self._ends[chunk.stop] - self._ends[chunk.start]


def ends_of(windows: Iterable[Window]) -> Sequence[int]:
    """Returns how many questions end before each window, and before the end."""
    asked = [window.question_id for window in windows]
    return [0, *accumulate(one != following for one, following in zip_longest(asked, asked[1:]))]
