"""Looks up the known limits of a phone, by its chip and by the bundle's SDK, in known_limits.toml."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from bundler.device.probe import PhoneFacts
from bundler.resources import KNOWN_LIMITS

NUMBER = re.compile(r"\d+(?:\.\d+)*")
COMPARED = re.compile(r"(<|>=)(\d+(?:\.\d+)*)")


@dataclass(frozen=True)
class KnownLimit:
    """Holds if all its conditions do; an empty condition always holds. `sdk` is such as `<2.20` or `>=2.27,<2.28`."""

    name: str
    warning: str
    remedy: str
    source: str
    hexagon: tuple[int, ...] = ()
    soc: tuple[str, ...] = ()
    sdk: str = ""
    precision: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ()
    engine: tuple[str, ...] = ()
    prepared: bool | None = None


@dataclass(frozen=True)
class Use:
    """The planned use. None means undecided, so that every value of a condition matches. `sdk`: the release of the
    programs, such as 2.31.0.250130; if it is empty, limits of releases do not hold."""

    runtime: str | None = None
    engine: str | None = None
    precision: str | None = None
    prepared: bool | None = None
    sdk: str = ""


@cache
def known_limits() -> tuple[KnownLimit, ...]:
    """Returns the table."""
    with KNOWN_LIMITS.open("rb") as file:
        entries = tomllib.load(file)["limits"]
    values: list[dict[str, Any]] = [
        {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()} for entry in entries
    ]
    return tuple(KnownLimit(**each) for each in values)


def limits_of(facts: PhoneFacts, use: Use) -> list[KnownLimit]:
    """Returns the limits that hold for this phone and this use, in the order of the table."""
    soc = facts.soc
    return [
        limit
        for limit in known_limits()
        if _among(limit.hexagon, soc.hexagon if soc else 0)
        and _among(limit.soc, soc.name if soc else "")
        and (not limit.sdk or is_within(use.sdk, limit.sdk))
        and _among(limit.precision, use.precision)
        and _among(limit.runtime, use.runtime)
        and _among(limit.engine, use.engine)
        and (limit.prepared is None or use.prepared in (None, limit.prepared))
    ]


def is_within(version: str, wanted: str) -> bool:
    """Returns whether a version such as 2.27.0 satisfies `>=2.27,<2.28`; text without a version never does."""
    found = NUMBER.match(version)
    if found is None:
        return False
    return all(_compares(_numbers(found[0]), sign, _numbers(other)) for sign, other in COMPARED.findall(wanted))


def _compares(version: tuple[int, ...], sign: str, other: tuple[int, ...]) -> bool:
    return version < other if sign == "<" else version >= other


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _among(wanted: tuple[object, ...], value: object) -> bool:
    return not wanted or value is None or value in wanted
