"""What a failed run's log says is wrong: the phone's own error lines recognised and explained.

The table is known_errors.toml; docs/errors.md shows it.
"""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

from bundler.resources import KNOWN_ERRORS


@dataclass(frozen=True)
class KnownError:
    """A way to fail: `pattern` finds its lines, `sample` is one; `statuses` are exit codes that tell the same. `line`
    is the line of a log that tells it, empty where only the exit code does."""

    name: str
    pattern: re.Pattern[str]
    cause: str
    remedy: str
    sample: str
    source: str
    statuses: tuple[int, ...] = ()
    line: str = ""


@cache
def known_errors() -> tuple[KnownError, ...]:
    """The table, the most specific first."""
    with KNOWN_ERRORS.open("rb") as file:
        entries = tomllib.load(file)["errors"]
    return tuple(
        KnownError(**{**entry, "pattern": re.compile(entry["pattern"]), "statuses": tuple(entry.get("statuses", ()))})
        for entry in entries
    )


def explain(lines: Iterable[str], exit_status: int) -> KnownError | None:
    """The most specific explanation of these lines, or of the exit code where no line has one; None without either."""
    stripped = [line.strip() for line in lines]
    for known in known_errors():
        found = next((line for line in stripped if known.pattern.search(line)), None)
        if found is not None:
            return replace(known, line=found)
    return next((known for known in known_errors() if exit_status in known.statuses), None)
