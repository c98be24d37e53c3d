"""The table of Snapdragon chips: Hexagon version, QNN's id, Android's platform name."""

import json
from dataclasses import dataclass
from functools import cache

from bundler.resources import SOCS

FIRST_HTP = 68  # Hexagon versions below have no tensor processor
FIRST_FLOAT16 = 69  # SM8350's and SM7325's HTP computes no float16
SIMULATED = (
    "SM8550",
    "SM8650",
    "SM8750",
)  # the chips whose float graphs libQnnHtp.so's simulator ran (FACTS: measured)
DEFAULT = "SM8650"


@dataclass(frozen=True)
class Soc:
    name: str
    market: str
    hexagon: int
    qnn_id: int
    platform: str

    @property
    def takes_float16(self) -> bool:
        return self.hexagon >= FIRST_FLOAT16


@cache
def known_socs() -> dict[str, Soc]:
    """Name -> Soc, in the order of the table."""
    return {entry["name"]: Soc(**entry) for entry in json.loads(SOCS.read_text())["socs"]}


def find_soc(model: str) -> Soc | None:
    """The chip of `ro.soc.model`, whose value may carry a suffix (SM8750-AC, SM8350P); None for an unknown one."""
    return next((soc for name, soc in known_socs().items() if model.upper().startswith(name)), None)
