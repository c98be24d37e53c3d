"""Draws a random sample of windows from a stream. Only the sample is held in memory."""

import random
from collections.abc import Iterable, Iterator

from bundler.types import Feature


class Sample:
    """A uniform random sample of at most `count` of the features that pass through `watch`, fixed by its seed."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._random = count, random.Random(seed)
        self._kept: list[tuple[int, Feature]] = []

    def watch(self, features: Iterable[Feature]) -> Iterator[Feature]:
        """Yields the features unchanged."""
        for number, feature in enumerate(features):
            if number < self._count:
                self._kept.append((number, feature))
            elif (place := self._random.randrange(number + 1)) < self._count:
                self._kept[place] = (number, feature)
            yield feature

    @property
    def features(self) -> list[Feature]:
        """Returns the sample, in stream order."""
        return [feature for _, feature in sorted(self._kept, key=lambda pair: pair[0])]
