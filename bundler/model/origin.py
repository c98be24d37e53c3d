"""Detects how a DLC was made: whose tools wrote it, and the name of its graph."""

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from bundler.dlc.cache import note, noted, sha256_of
from bundler.dlc.inspect import inspect_dlc
from bundler.engines import ENGINES, EngineName
from bundler.errors import DlcInvalid, NoConverter

WRITER = "libQnnIr"  # QNN's writer of DLCs records itself as the backend of a run


@dataclass(frozen=True)
class Origin:
    """`engine`: qnn if QNN's writer wrote the DLC, else snpe; `graph`: empty if nothing here reads the file."""

    engine: EngineName
    graph: str


def origin_of(dlc: Path, *, cache: bool = False) -> Origin:
    """Returns a DLC's origin, read in a child process. `cache`: uses the cached result for the same bytes, if any."""
    key = f"origin-{importlib.metadata.version('mbqa-bundle')}-{sha256_of(dlc)}"
    told = noted(key) if cache else None
    if isinstance(told, dict) and told.get("engine") in ENGINES and isinstance(told.get("graph"), str):
        return Origin(told["engine"], told["graph"])
    try:
        report = inspect_dlc(dlc)
    except (DlcInvalid, NoConverter):  # made by a newer SDK, or Qualcomm's libraries are missing here
        found = Origin("snpe", "")
    else:
        written = any(str(step.arguments.get("backend", "")).startswith(WRITER) for step in report.history[-1:])
        found = Origin("qnn" if written else "snpe", report.graph)
    if cache:
        note(key, vars(found))
    return found
