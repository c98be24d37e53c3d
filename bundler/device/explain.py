"""What a failed run's log says is wrong: the phone's own error lines recognised and explained.

The table is known_errors.toml; docs/errors.md shows it.
"""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from bundler.resources import KNOWN_ERRORS


@dataclass(frozen=True)
class KnownError:
    """A way to fail: `pattern` finds its lines, `sample` is one; `statuses` are exit codes that tell the same."""

    name: str
    pattern: re.Pattern[str]
    cause: str
    remedy: str
    sample: str
    source: str
    statuses: tuple[int, ...]


@dataclass(frozen=True)
class Explanation:
    """`line` is the line of the log that tells it, empty where only the exit code does."""

    name: str
    line: str
    cause: str
    remedy: str


@cache
def known_errors() -> tuple[KnownError, ...]:
    """The table, the most specific first."""
    with KNOWN_ERRORS.open("rb") as file:
        entries = tomllib.load(file)["errors"]
    return tuple(
        KnownError(
            entry["name"],
            re.compile(entry["pattern"]),
            entry["cause"],
            entry["remedy"],
            entry["sample"],
            entry["source"],
            tuple(entry.get("statuses", ())),
        )
        for entry in entries
    )


def explain(lines: Iterable[str], exit_status: int | None = None) -> Explanation | None:
    """The most specific explanation of these lines, or of the exit code where no line has one; None without either."""
    stripped = [line.strip() for line in lines]
    for known in known_errors():
        found = next((line for line in stripped if known.pattern.search(line)), None)
        if found is not None:
            return Explanation(known.name, found, known.cause, known.remedy)
    for known in known_errors():
        if exit_status in known.statuses:
            return Explanation(known.name, "", known.cause, known.remedy)
    return None
