"""A DLC as the ZIP archive that it is: its records, and what they tell of the tools that made it.

The writers leave checksums at zero, so that `zipfile` lists the records but does not read them.
"""

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CACHES = ("aip.", "aix.", "backend.metadata", "gpu.", "hexnnv2.", "hta.", "htp.")
"""How the names of records begin that hold a network prepared for one accelerator."""
HISTORY = "dlc.metadata.history"
METADATA = "dlc.metadata"
LIMIT_BYTES = 1 << 20
LOCAL_HEADER = 30


@dataclass(frozen=True)
class Step:
    """One tool's run in the making of a DLC, as the DLC tells it."""

    kind: str
    tool: str
    version: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Archive:
    """The records' names, those of accelerators' caches among them, and the DLC's history, oldest step first."""

    records: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    history: tuple[Step, ...] = ()


def read_archive(path: Path) -> Archive:
    """What a DLC's archive tells; an empty one for a file that is no ZIP."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return Archive()
    steps: list[Step] = []
    for name in sorted(entries, reverse=True):  # the history has all of the plain metadata and more
        if name.startswith(METADATA) and not steps:
            steps = _steps(_content(path, entries[name]))
    caches = tuple(sorted(name for name in entries if name.startswith(CACHES)))
    return Archive(tuple(sorted(entries)), caches, tuple(steps))


def _content(path: Path, entry: zipfile.ZipInfo) -> str:
    """A record's text, at most LIMIT_BYTES of it; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(entry.header_offset)
            header = file.read(LOCAL_HEADER)
            name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
            file.seek(name + extra, 1)
            data = file.read(min(entry.compress_size, LIMIT_BYTES))
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, LIMIT_BYTES)
    except (OSError, ValueError, zlib.error):
        return ""
    return data.decode("utf-8", errors="replace")


def _steps(text: str) -> list[Step]:
    """The steps in metadata of newer releases (JSON) or older ones (lines of key=value)."""
    try:
        runs = json.loads(text)["dlcGenerationInfo"]
        return [_step(kind, run) for entry in runs for kind, run in entry.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    values = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    command = values.get("converter-command", "")
    if not command:
        return []
    return [Step("converterCommand", command.split()[0], values.get("converter-version", ""), {"command": command})]


def _step(kind: str, run: Mapping[str, Any]) -> Step:
    version = next((str(value) for key, value in run.items() if key.lower().endswith("version")), "")
    arguments = run.get("args", {})
    return Step(kind, str(run.get("tool", "")), version, dict(arguments) if isinstance(arguments, Mapping) else {})
