"""Runs Qualcomm's HTP libraries on a DLC: computes its logits for windows, or compiles it ahead of time."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bundler.dlc.cache import sha256_of
from bundler.dlc.child import Child, Logits, Networks, Task, cores
from bundler.dlc.htp import context_name
from bundler.errors import SocUnfit
from bundler.model.graph import Feed
from bundler.soc import Soc, known_socs
from bundler.types import Progress


def run_on_simulator(dlc: Path, soc: Soc, feeds: Sequence[Feed], progress: Progress) -> list[Logits]:
    """Returns the DLC's outputs, float32 (1, length) by name, for each feed of int32 (1, length) arrays.

    Raises:
        DlcInvalid: the HTP refuses it; NoConverter: the libraries are not installed.
    """
    networks = Networks(Task(str(dlc.absolute()), "dsp", soc.qnn_id))
    threads = ThreadPoolExecutor(max(1, min(cores(), len(feeds))))
    outputs: list[Logits] = []
    try:
        for logits in threads.map(networks.execute, feeds):
            progress("running the DLC on the DSP's simulator", len(outputs), len(feeds))
            outputs.append(logits)
    finally:
        networks.close()
        threads.shutdown(cancel_futures=True)
    return outputs


def prepare_context(dlc: Path, soc: Soc) -> Path:
    """Compiles the DLC for the chip, into a file beside it whose name includes the hash of the DLC's content.

    Raises:
        DlcInvalid: the HTP refuses it; NoConverter
    """
    out = dlc.parent / context_name(soc.name, sha256_of(dlc))
    out.parent.mkdir(exist_ok=True)
    Child(Task(str(dlc.absolute()), "dsp", soc.qnn_id, save=str(out.absolute()))).close()
    return out


def check_simulated(soc: Soc, precision: str) -> None:
    """Raises SocUnfit unless the simulator of the chip's HTP is known to compute this precision."""
    if precision in soc.simulated.split():
        return
    others = [name for name, other in known_socs().items() if precision in other.simulated.split()]
    near = sorted(others, key=lambda name: abs(known_socs()[name].hexagon - soc.hexagon))[:4]
    what = f"its HTP takes no {precision}" if not soc.takes(precision) else f"no simulator of its HTP runs {precision}"
    hint = f"Build for {' or '.join(near)} (--soc), at another precision, or without --check and --prepare."
    raise SocUnfit(soc.name, soc.market, what, hint)
