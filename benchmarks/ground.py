"""What races stand on: a folder, how large things are to be, and what is made once and used by several."""

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class NotHere(Exception):
    """What a race needs cannot be had on this machine; the message says why."""


class Ground:
    """Lives as long as the races of one topic; `quick`: sizes that only show that everything runs."""

    def __init__(self, folder: Path, *, quick: bool = False) -> None:
        self.folder, self.quick = folder, quick
        self._made: dict[Hashable, Any] = {}
        self._open = ExitStack()

    def size(self, full: T, tiny: T) -> T:
        """How much of something a race takes."""
        return tiny if self.quick else full

    def place(self, name: str) -> Path:
        """A new folder."""
        path = self.folder / name
        path.mkdir(parents=True)
        return path

    def made(self, make: Callable[..., T], *arguments: Hashable) -> T:
        """make(ground, *arguments), made at the first call."""
        key = (make, *arguments)
        if key not in self._made:
            self._made[key] = make(self, *arguments)
        found: T = self._made[key]
        return found

    def opened(self, make: Callable[..., AbstractContextManager[T]], *arguments: Hashable) -> T:
        """What the context manager make(ground, *arguments) yields, entered at the first call and left at the end."""
        key = (make, *arguments)
        if key not in self._made:
            self._made[key] = self._open.enter_context(make(self, *arguments))
        found: T = self._made[key]
        return found

    def __enter__(self) -> "Ground":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
