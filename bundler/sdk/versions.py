"""Lists the known SDKs and the addresses of their archives, from versions.toml."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from bundler.errors import UsageError
from bundler.platforms import is_loopback
from bundler.resources import SDK_VERSIONS

VERSION = re.compile(r"\d{1,4}(\.\d{1,8}){2,3}")


@dataclass(frozen=True)
class Known:
    """Facts about an archive from public documents; `sha256` is of files in it, by their path below the SDK's root."""

    version: str
    source: str = ""
    bytes: int | None = None
    sha256_begins: str = ""
    url: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(SDK_VERSIONS.read_text(encoding="utf-8"))


def known_versions() -> tuple[Known, ...]:
    """Returns the table, newest first."""
    made = [Known(version, **row) for version, row in _table()["versions"].items()]
    return tuple(sorted(made, key=lambda known: order(known.version), reverse=True))


def default_version() -> str:
    return str(_table()["default"])


def known(version: str) -> Known:
    """Returns the known facts of a version, at least its number."""
    return next((each for each in known_versions() if each.version == version), Known(version))


def order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def checked_version(text: str) -> str:
    """Returns the version without a leading "v". Raises: UsageError: this is not a version number"""
    version = text.removeprefix("v")
    if not VERSION.fullmatch(version):
        raise UsageError(f"{text}: not a version of the SDK", f"One such is {default_version()}; see `sdk list`.")
    return version


def address(version: str, mirror: str | None) -> str:
    """Returns the address of a version's archive: at Qualcomm's public place, or at a mirror of it."""
    usual = "" if mirror else known(version).url
    return usual or f"{(mirror or str(_table()['usual'])).rstrip('/')}/{version}/v{version}.zip"


def checked_address(url: str, *, insecure: bool) -> str:
    """Returns the address if its answers can be trusted: https, or this computer; or any with `insecure`.

    Raises:
        UsageError
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https"):
        raise UsageError(f"{url}: not an address on the web", "Give one that begins with https://.")
    if parts.scheme == "http" and not insecure and not is_loopback(host):
        hint = "Use https; --insecure takes http, and then anybody on the way may change what comes."
        raise UsageError(f"{shown(url)}: http, on another computer", hint)
    return url


def shown(url: str) -> str:
    """Returns an address without its secrets: the name and password, and the signature of a redirect."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
