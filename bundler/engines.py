"""Describes Qualcomm's two programs that run a DLC on a phone, with all their differences except runner templates."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bundler.soc import FIRST_HTP

EngineName = Literal["snpe", "qnn"]
EngineChoice = Literal["auto", "snpe", "qnn"]


@dataclass(frozen=True)
class Engine:
    """One of the programs.

    needed: libraries that it always needs; wished: libraries that some releases lack. family: the part after `lib` in
    the names of its libraries, also of the DSP's stubs and skels. time_log: its file of times, beside the outputs.
    time_reader: the SDK's program that reads this file, or empty. dsp_settings: the template of its settings file for
    the DSP, or empty if options set them.
    """

    name: EngineName
    program: str
    needed: tuple[str, ...]
    wished: tuple[str, ...]
    family: str
    time_log: str
    time_reader: str = ""
    dsp_settings: str = ""

    @property
    def path(self) -> str:
        """Returns the path of the program in the bundle's device folder."""
        return f"bin/{self.program}"

    @property
    def runner(self) -> str:
        """Returns the script in the bundle's device folder that calls it; templates/ has its template."""
        return f"run_{self.name}.sh"

    def dsp_part(self, hexagon: int, part: Literal["Stub", "Skel"]) -> str:
        """Returns the name of the CPU's library for the DSP (stub), or of the DSP's own library (skel)."""
        return f"lib{self.family}{'Htp' if hexagon >= FIRST_HTP else 'Dsp'}V{hexagon}{part}.so"

    def owns(self, path: str) -> bool:
        """Returns whether a file of the device folder is for this engine only."""
        name = path.rpartition("/")[2]
        return path == self.path or name.lower().startswith(f"lib{self.family}".lower())


ENGINES: dict[EngineName, Engine] = {
    "snpe": Engine(
        "snpe",
        "snpe-net-run",
        needed=("libSNPE.so",),
        wished=("libSnpeHtpPrepare.so", "libc++_shared.so"),
        family="Snpe",
        time_log="SNPEDiag_0.log",
        time_reader="snpe-diagview",
    ),
    "qnn": Engine(
        "qnn",
        "qnn-net-run",
        needed=("libQnnModelDlc.so", "libQnnSystem.so", "libQnnCpu.so", "libQnnGpu.so", "libQnnHtp.so"),
        wished=("libQnnHtpPrepare.so", "libQnnHtpNetRunExtensions.so", "libc++_shared.so"),
        family="Qnn",
        time_log="qnn-profiling-data_0.log",
        dsp_settings="htp.json.j2",
    ),
}

DSP_PART = re.compile(rf"lib(?:{'|'.join(engine.family for engine in ENGINES.values())})(?:Htp|Dsp)V(\d+)\w*\.so$")


def hexagon_of_part(name: str) -> int | None:
    """Returns the Hexagon version that a library is for, by its name; None for files that every phone needs."""
    found = DSP_PART.search(name)
    return int(found.group(1)) if found else None


def hexagons_in(names: Iterable[str]) -> set[int]:
    """Returns the Hexagon versions that files are for."""
    return {hexagon for name in names if (hexagon := hexagon_of_part(name)) is not None}


def without_others(names: Iterable[str], engine: Engine) -> list[str]:
    """Returns the files without those that are for another engine only."""
    others = [other for other in ENGINES.values() if other != engine]
    return [name for name in names if not any(other.owns(name) for other in others)]
