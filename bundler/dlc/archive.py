"""Reads a DLC as a ZIP archive: its records, and the history of the tools that made it.

Checksums are not verified, since the writers leave them at zero.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CACHES = ("aip.", "aix.", "backend.metadata", "gpu.", "hexnnv2.", "hta.", "htp.")
"""Prefixes of the names of records that hold a network prepared for one accelerator."""
METADATA = "dlc.metadata"
LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class Step:
    """One tool's run in the making of a DLC, as recorded in the DLC."""

    kind: str
    tool: str
    version: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Archive:
    """The records' names, including those of accelerators' caches, and the DLC's history, oldest step first."""

    records: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    history: tuple[Step, ...] = ()


def read_archive(path: Path) -> Archive:
    """Reads a DLC's archive; returns an empty one for a file that is not a ZIP."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted({entry.filename for entry in archive.infolist()})
            steps: list[Step] = []
            for name in reversed(names):  # the history includes the plain metadata
                if name.startswith(METADATA) and not steps:
                    steps = _steps(_content(archive, archive.getinfo(name)))
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return Archive()
    return Archive(tuple(names), tuple(name for name in names if name.startswith(CACHES)), tuple(steps))


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    """Returns at most LIMIT_BYTES of a record's text; empty if it cannot be read."""
    del entry.CRC  # disables zipfile's check
    try:
        with archive.open(entry) as record:
            return record.read(LIMIT_BYTES).decode("utf-8", errors="replace")
    except Exception:  # the errors of damaged records have no common base
        return ""


def _steps(text: str) -> list[Step]:
    """Parses the steps in metadata of newer releases (JSON) or older ones (lines of key=value)."""
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
