"""Provides races with a folder, sizes, and shared objects that are made once."""

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class NotHere(Exception):
    """A race's requirements are not available on this machine; the message says why."""


class Ground:
    """Lives as long as the races of one topic; `quick`: sizes that only show that everything runs."""

    def __init__(self, folder: Path, *, quick: bool = False) -> None:
        self.folder, self.quick = folder, quick
        self._made: dict[Hashable, Any] = {}
        self._open = ExitStack()

    def size(self, full: T, tiny: T) -> T:
        """Returns the size that a race uses."""
        return tiny if self.quick else full

    def place(self, name: str) -> Path:
        """Returns a new folder."""
        path = self.folder / name
        path.mkdir(parents=True)
        return path

    def made(self, make: Callable[..., T], *arguments: Hashable) -> T:
        """Returns make(ground, *arguments), made at the first call."""
        return self._once((make, *arguments), lambda: make(self, *arguments))

    def opened(self, make: Callable[..., AbstractContextManager[T]], *arguments: Hashable) -> T:
        """Returns the value of the context manager make(ground, *arguments), entered once and left at the end."""
        return self._once((make, *arguments), lambda: self._open.enter_context(make(self, *arguments)))

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Returns the result of `make` at the first call; after a failure there is no second attempt.

        Raises:
            NotHere
        """
        if key not in self._made:
            try:
                self._made[key] = make()
            except NotHere as error:
                self._made[key] = error
        found = self._made[key]
        if isinstance(found, NotHere):
            raise found
        made: T = found
        return made

    def __enter__(self) -> "Ground":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
