"""Explains why a run failed: recognises the known error lines in its log.

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
    """A kind of failure: `pattern` matches its lines, `sample` is an example; `statuses` are exit codes with the same
    meaning. `line` is the matching line of a log, empty if only the exit code matches."""

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
    """Returns the table, the most specific errors first."""
    with KNOWN_ERRORS.open("rb") as file:
        entries = tomllib.load(file)["errors"]
    return tuple(
        KnownError(**{**entry, "pattern": re.compile(entry["pattern"]), "statuses": tuple(entry.get("statuses", ()))})
        for entry in entries
    )


def explain(lines: Iterable[str], exit_status: int) -> KnownError | None:
    """Returns the most specific explanation of the lines, or else of the exit code; None if there is none."""
    stripped = [line.strip() for line in lines]
    for known in known_errors():
        found = next((line for line in stripped if known.pattern.search(line)), None)
        if found is not None:
            return replace(known, line=found)
    return next((known for known in known_errors() if exit_status in known.statuses), None)
