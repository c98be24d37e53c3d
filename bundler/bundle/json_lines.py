"""Presents a file of JSON lines as a sequence; reads each line on access."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

from bundler.errors import BundleInvalid

PIECE = 1 << 20
T = TypeVar("T")


class JsonLines(Sequence[T], Generic[T]):
    """A sequence of the results of `parse`, called with each line's number and value.

    Reading an item raises BundleInvalid if its line is not JSON, or if `parse` raises ValueError.
    """

    def __init__(self, path: Path, parse: Callable[[int, Any], T]) -> None:
        self._path, self._parse = path, parse

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...
    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        numbers = range(len(self))[place]
        if isinstance(numbers, int):
            return next(self._items(numbers, numbers + 1))
        if numbers.step == 1:
            return tuple(self._items(numbers.start, numbers.stop))
        return tuple(self[number] for number in numbers)

    def __iter__(self) -> Iterator[T]:
        return self._items(0, len(self))

    def _items(self, start: int, stop: int) -> Iterator[T]:
        if start >= stop:
            return
        with self._path.open("rb") as file:
            file.seek(self._ends[start - 1] if start else 0)
            for number in range(start, stop):
                yield self._item(number, file.readline())

    def _item(self, number: int, line: bytes) -> T:
        try:
            return self._parse(number, json.loads(line))
        except (ValueError, RecursionError) as error:
            raise BundleInvalid(self._path, f"line {number + 1} is not what build writes: {error}") from error

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        """Returns (lines,): the offset after each line."""
        ends, size = [], 0
        with self._path.open("rb") as file:
            while piece := file.read(PIECE):
                ends.append(np.flatnonzero(np.frombuffer(piece, np.uint8) == ord("\n")) + size + 1)
                size += len(piece)
        return np.concatenate([np.zeros(0, np.int64), *ends])


class Selection(Sequence[T], Generic[T]):
    """The items of a sequence at `places`, which ascend."""

    def __init__(self, items: Sequence[T], places: Sequence[int]) -> None:
        self.items, self.places = items, places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...
    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        chosen = self.places[place]
        return self.items[chosen] if isinstance(chosen, int) else tuple(self.items[each] for each in chosen)
