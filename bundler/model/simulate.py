"""Qualcomm's HTP libraries at work on a DLC in a child process, since they print and may crash.

`run_on_simulator` gives a DLC's logits for windows; `prepare_context` compiles it ahead of time. The child is
`python -m bundler.model.simulate FOLDER`, which finds its task there and leaves its result.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bundler.dlc.htp import context_name
from bundler.dlc.qnn import library_folder
from bundler.errors import DlcInvalid, SocUnfit
from bundler.soc import Soc, known_socs
from bundler.types import Progress

PREPARE_S = 900.0
WINDOW_S = 300.0
POLL_S = 0.2

Logits = dict[str, npt.NDArray[np.float32]]


def run_on_simulator(dlc: Path, soc: Soc, feeds: Sequence[dict[str, Any]], progress: Progress) -> list[Logits]:
    """The outputs of the DLC, float32 (1, length) by name, for each feed of int32 (1, length) arrays.

    Raises:
        DlcInvalid: the HTP refuses it; NoConverter: the libraries are not here.
    """
    with tempfile.TemporaryDirectory(prefix="mbqa-htp-") as name:
        folder = Path(name)
        for number, feed in enumerate(feeds):
            np.savez(folder / f"feed{number}.npz", **feed)

        def tell() -> None:
            done = len(list(folder.glob("out*.npz")))
            progress("running the DLC on the DSP's simulator", done, len(feeds))

        task = {"run": len(feeds)}
        _work(dlc, soc, task, folder, PREPARE_S + WINDOW_S * len(feeds), tell)
        outputs = []
        for number in range(len(feeds)):
            with np.load(folder / f"out{number}.npz") as arrays:
                outputs.append({key: arrays[key] for key in arrays.files})
        return outputs


def prepare_context(dlc: Path, soc: Soc) -> Path:
    """Compiles the DLC for the chip; the result lies beside it, under a name that ties it to the DLC's content.

    Raises:
        DlcInvalid: the HTP refuses it; NoConverter
    """
    with dlc.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    out = dlc.parent / context_name(soc.name, digest)
    out.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mbqa-htp-") as name:
        _work(dlc, soc, {"prepare": str(out)}, Path(name), PREPARE_S, lambda: None)
    return out


def check_simulated(soc: Soc, precision: str) -> None:
    """Raises SocUnfit where the simulator of the chip's HTP was not seen to compute this precision."""
    if precision in soc.simulated.split():
        return
    others = [name for name, other in known_socs().items() if precision in other.simulated.split()]
    near = sorted(others, key=lambda name: abs(known_socs()[name].hexagon - soc.hexagon))[:4]
    what = f"its HTP takes no {precision}" if not soc.takes(precision) else f"no simulator of its HTP runs {precision}"
    hint = f"Build for {' or '.join(near)} (--soc), at another precision, or without --check and --prepare."
    raise SocUnfit(soc.name, soc.market, what, hint)


def _work(dlc: Path, soc: Soc, task: dict[str, Any], folder: Path, limit_s: float, tell: Any) -> None:
    """Runs the child to its end."""
    library_folder()
    task = {**task, "dlc": str(dlc.absolute()), "soc_model": soc.qnn_id}
    (folder / "task.json").write_text(json.dumps(task), encoding="utf-8", newline="\n")
    command = [sys.executable, "-P", "-m", "bundler.model.simulate", str(folder)]
    deadline = time.monotonic() + limit_s
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while child.poll() is None:
                if time.monotonic() > deadline:
                    raise DlcInvalid(dlc, f"the HTP's simulator does not come to an end within {limit_s:g} s")
                tell()
                time.sleep(POLL_S)
        finally:
            child.kill()
            child.wait()
    verdict = folder / "verdict.json"
    if not verdict.exists():
        raise DlcInvalid(dlc, f"the HTP's simulator died on it with code {child.returncode}")
    if refused := json.loads(verdict.read_text(encoding="utf-8"))["refused"]:
        raise DlcInvalid(dlc, refused)
    tell()


def _child(folder: Path) -> str | None:
    """Does the task; says why not, where the HTP refuses."""
    from bundler.dlc.htp import HtpNetwork, save_context

    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    try:
        if "prepare" in task:
            save_context(Path(task["dlc"]), task["soc_model"], Path(task["prepare"]))
            return None
        network = HtpNetwork(Path(task["dlc"]), task["soc_model"])
    except DlcInvalid as refused:
        return str(refused).removeprefix(f"{task['dlc']}: ")
    for number in range(task["run"]):
        with np.load(folder / f"feed{number}.npz") as feed:
            outputs = network.execute({key: feed[key] for key in feed.files})
        draft = folder / f"draft{number}.npz"
        np.savez(draft, **outputs)  # type: ignore[arg-type]
        draft.rename(folder / f"out{number}.npz")
    return None


if __name__ == "__main__":
    where = Path(sys.argv[1])
    (where / "verdict.json").write_text(json.dumps({"refused": _child(where)}), encoding="utf-8", newline="\n")
