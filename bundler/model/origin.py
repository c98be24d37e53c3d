"""What a DLC tells of its making: whose tools wrote it, and how its graph is called."""

from dataclasses import dataclass
from pathlib import Path

from bundler.dlc.inspect import inspect_dlc
from bundler.engines import EngineName
from bundler.errors import DlcInvalid, NoConverter

WRITER = "libQnnIr"  # QNN's writer of DLCs notes itself as the backend of a run


@dataclass(frozen=True)
class Origin:
    """`engine`: qnn where QNN's own writer wrote the DLC; `graph` is empty where nothing here reads the file."""

    engine: EngineName
    graph: str


def origin_of(dlc: Path) -> Origin:
    try:
        report = inspect_dlc(dlc)
    except (DlcInvalid, NoConverter):  # a newer SDK's, or one for a computer without Qualcomm's libraries
        return Origin("snpe", "")
    written = any(str(step.arguments.get("backend", "")).startswith(WRITER) for step in report.history[-1:])
    return Origin("qnn" if written else "snpe", report.graph)
