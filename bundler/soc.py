"""Describes the known Snapdragon chips: Hexagon version, QNN's id, Android's platform name, and the sources."""

from dataclasses import dataclass
from functools import cache

from bundler.resources import SOCS

FIRST_HTP = 68  # lower Hexagon versions have no tensor processor
FIRST_FLOAT16 = 69  # SM8350's, SM7350's and SM7325's HTP computes no float16
FIRST_WIDE_WEIGHTS = 73  # for lower versions, libQnnHtp.so says of weights of 16 bits: "expected >= 73"
DEFAULT = "SM8650"


@dataclass(frozen=True)
class Soc:
    """A chip; `sure` is H (from the vendor) or M (from one third-party source), `source` names entries of socs.json.

    `simulated`: the precisions that the simulator of its HTP is known to compute (socs.json names the wheel).
    """

    name: str
    market: str
    hexagon: int
    qnn_id: int
    platform: str
    vtcm_mb: int | None = None
    sure: str = "H"
    source: str = ""
    float16: bool | None = None  # if the chip differs from its Hexagon version's rule
    simulated: str = ""

    @property
    def has_htp(self) -> bool:
        """Returns whether it has a tensor processor; without one, SNPE's DSP runtime runs no model of this project."""
        return self.hexagon >= FIRST_HTP

    @property
    def takes_float16(self) -> bool:
        return self.hexagon >= FIRST_FLOAT16 if self.float16 is None else self.float16

    def takes(self, precision: str) -> bool:
        """Returns whether its HTP computes models of a precision such as fp16 or w8a8."""
        if not self.has_htp:
            return False
        if precision.startswith("fp"):
            return self.takes_float16
        return self.hexagon >= FIRST_WIDE_WEIGHTS or not precision.startswith("w16")


@cache
def known_socs() -> dict[str, Soc]:
    """Returns the chips by name, in the order of the table."""
    import json

    return {entry["name"]: Soc(**entry) for entry in json.loads(SOCS.read_text(encoding="utf-8"))["socs"]}


def judge_for(soc: Soc, precision: str) -> Soc:
    """Returns the chip whose HTP the operators are checked for: `soc`, or the default if `soc` lacks the precision.

    A DLC is the same for every chip, and a phone's CPU and GPU run any.
    """
    return soc if soc.takes(precision) else known_socs()[DEFAULT]


def find_soc(model: str, platform: str = "") -> Soc | None:
    """Returns the chip of `ro.soc.model`, which may have a suffix (SM8750-AC, SM8350P); None for an unknown one.

    Android before 12 has no such property: then `platform` (ro.board.platform, also accepted as `model`) decides,
    unless chips of several Hexagon versions share it.
    """
    by_name = sorted(known_socs().items(), key=lambda item: len(item[0]), reverse=True)
    wanted = model.strip().upper()
    named = next((soc for name, soc in by_name if _is_prefix(name, wanted)), None)
    return named or _of_platform((platform or model).strip().lower())


def _is_prefix(name: str, model: str) -> bool:
    """Returns whether a name is the model's, as SM8350 of SM8350P and SM8350-AC, but not of a longer number."""
    return model.startswith(name) and not model[len(name) : len(name) + 1].isdigit()


def _of_platform(platform: str) -> Soc | None:
    sharing = [soc for soc in known_socs().values() if platform and soc.platform == platform]
    return sharing[0] if len({soc.hexagon for soc in sharing}) == 1 else None
