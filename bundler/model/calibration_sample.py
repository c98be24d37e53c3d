"""A random sample of windows, drawn while they stream by: memory holds the sample only."""

import random
from collections.abc import Iterable, Iterator

from bundler.types import Feature


class Sample:
    """At most `count` of the features that pass through `watch`, each with the same chance; the same seed, the same."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._random = count, random.Random(seed)
        self._kept: list[tuple[int, Feature]] = []

    def watch(self, features: Iterable[Feature]) -> Iterator[Feature]:
        """The features, unchanged."""
        for number, feature in enumerate(features):
            if number < self._count:
                self._kept.append((number, feature))
            elif (place := self._random.randrange(number + 1)) < self._count:
                self._kept[place] = (number, feature)
            yield feature

    @property
    def features(self) -> list[Feature]:
        """The sample, in the order in which it passed."""
        return [feature for _, feature in sorted(self._kept, key=lambda pair: pair[0])]
