"""Writes JSON files entry by entry, so that they need not fit in memory, with the same bytes as json.dumps."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bundler.files import writing

TO_JSON = json.JSONEncoder(ensure_ascii=False, indent=1, allow_nan=False).encode


@contextmanager
def object_file(path: Path) -> Iterator[Callable[[str, Any], None]]:
    """Yields a function that adds a name and value to an object; creates the file if the block succeeds.

    Raises:
        HostStorageFailed
    """
    with _entries(path, "{", "}", depth=1) as add:
        yield lambda name, value: add(f"{TO_JSON(name)}: {TO_JSON(value)}")


@contextmanager
def list_file(path: Path, head: Mapping[str, Any], name: str) -> Iterator[Callable[[Any], None]]:
    """Yields a function that adds items to a list. The list is the last member, `name`, of an object whose other
    members are `head`. Creates the file if the block succeeds.

    Raises:
        HostStorageFailed
    """
    closing = "]\n}"
    with _entries(path, TO_JSON({**head, name: []}).removesuffix(closing), closing, depth=2) as add:
        yield lambda item: add(TO_JSON(item))


@contextmanager
def _entries(path: Path, opening: str, closing: str, *, depth: int) -> Iterator[Callable[[str], None]]:
    """Yields a function that adds unindented entries; indents them by `depth`."""
    line = "\n" + " " * depth
    with writing(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as file:
        before = opening + line

        def add(entry: str) -> None:
            nonlocal before
            file.write(before + entry.replace("\n", line))
            before = "," + line

        yield add
        empty = before == opening + line
        file.write(f"{opening}{closing}\n" if empty else f"{line[:-1]}{closing}\n")
