"""Runs a bundle on simulators: processes here or a cluster compute chunks of windows until all logits are kept."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol

import numpy as np

from bundler import layout
from bundler.bundle import Bundle
from bundler.device.chunks import Chunk, chunks_of
from bundler.device.outputs import Logits, keep, kept_chunks
from bundler.dlc.child import Networks, Task
from bundler.dlc.htp import context_name
from bundler.errors import BundleInvalid, OutputsInvalid
from bundler.model.simulate import check_simulated
from bundler.runs.record import Part, Run
from bundler.soc import DEFAULT, Soc, find_soc, known_socs
from bundler.types import Progress, Runtime, TensorSpec

WAIT_S = 0.2
SIMULATES = {"dsp": "Qualcomm's HTP simulator", "gpu": "ONNX Runtime, float16", "cpu": "ONNX Runtime, float32"}
"""What computes for each runtime; recorded in place of a phone's model."""


def simulator_of(bundle: Bundle, runtime: Runtime, soc: Soc | None) -> tuple[Soc, Task]:
    """Returns the chip to simulate (None: the bundle's), and the task that computes its DLC as the runtime does.

    Raises:
        SocUnfit: there is no simulator of its DSP
    """
    dlc = (bundle.path / layout.DEVICE / layout.MODEL).absolute()
    chip = soc or find_soc(bundle.manifest.model.soc) or known_socs()[DEFAULT]
    if runtime != "dsp":
        return chip, Task(str(dlc), runtime)
    check_simulated(chip, bundle.manifest.model.precision or "w8a8")
    prepared = dlc.parent / context_name(chip.name, bundle.manifest.files[f"{layout.DEVICE}/{layout.MODEL}"].sha256)
    return chip, Task(str(dlc), runtime, chip.qnn_id, str(prepared) if prepared.is_file() else "")


class Workers(Protocol):
    """Computes chunks, `width` at once."""

    width: int

    def submit(self, raw: bytes) -> "Future[bytes]":
        """Takes a chunk's inputs, float32 (windows, inputs, *shape); gives its outputs, (outputs, windows, *shape)."""
        ...

    def close(self) -> None: ...


class Here:
    """Simulator processes on this computer."""

    def __init__(self, task: Task, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], width: int) -> None:
        self.width = width
        self._specs = inputs, outputs
        self._networks = Networks(task)
        self._threads = ThreadPoolExecutor(width)

    def submit(self, raw: bytes) -> "Future[bytes]":
        return self._threads.submit(compute, self._networks, *self._specs, raw)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)  # first, so that nothing more starts
        self._networks.close()
        self._threads.shutdown()


def compute(networks: Networks, inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec], raw: bytes) -> bytes:
    """Returns a chunk's outputs, in the layout of `Workers.submit`.

    Raises:
        DlcInvalid, NoConverter
    """
    names, shapes = [spec.name for spec in inputs], {spec.shape for spec in inputs}
    rows = np.frombuffer(raw, "<f4").reshape(-1, len(names), *shapes.pop())
    found = [networks.execute(dict(zip(names, row, strict=True))) for row in rows]
    return b"".join(logits[spec.name].astype("<f4").tobytes() for spec in outputs for logits in found)


def simulate(
    bundle: Bundle, run: Run, workers: Workers, part: Part, progress: Progress, look: Callable[[], None]
) -> Run:
    """Computes the chunks that the run's folder lacks; returns the finished run, whose record is saved.

    part: who computes, without the results; look: is called when chunks have arrived.

    Raises:
        DlcInvalid, NoConverter: from the workers; BundleInvalid; OutputsInvalid: a logit is not finite;
        HostStorageFailed
    """
    begun, folder = time.monotonic(), run.folder(bundle.path)
    total = len(bundle.manifest.windows)
    kept = kept_chunks(folder)
    left = [chunk for chunk in chunks_of(total, run.settings.chunk) if chunk not in kept]
    done = total - sum(map(len, left))
    waiting: dict[Future[bytes], Chunk] = {}
    for chunk in (*left, *[None] * workers.width):
        while len(waiting) >= workers.width + 1 or (chunk is None and waiting):
            progress("simulating", done, total)
            for future in wait(waiting, WAIT_S, FIRST_COMPLETED).done:
                computed = waiting.pop(future)
                keep(_checked(bundle, computed, future.result()), folder, computed)
                done += len(computed)
                look()
        if chunk is not None:
            waiting[workers.submit(_inputs(bundle, chunk))] = chunk
    seconds = run.seconds + time.monotonic() - begun
    count = len(chunks_of(total, run.settings.chunk))
    part = Part(part.phone, part.soc, part.model, {run.settings.runtime: total}, count, round(seconds, 3))
    finished = run.ended([part], seconds)
    finished.save(bundle.path)
    return finished


def _inputs(bundle: Bundle, chunk: Chunk) -> bytes:
    folder, names = bundle.path / layout.DEVICE, [spec.name for spec in bundle.manifest.inputs]
    windows = bundle.manifest.windows[chunk.start : chunk.stop]
    return b"".join(_raw(folder / window.inputs[name]) for window in windows for name in names)


def _raw(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleInvalid(path, f"cannot be read: {error.strerror}") from error


def _checked(bundle: Bundle, chunk: Chunk, raw: bytes) -> Logits:
    """Returns the outputs by name, float32 (windows, *shape). Raises: OutputsInvalid"""
    specs = bundle.manifest.outputs
    values = np.frombuffer(raw, "<f4").astype(np.float32)
    if not np.isfinite(values).all():
        what = f"the simulated logits of windows {chunk.start + 1} to {chunk.stop} are not all finite numbers"
        raise OutputsInvalid(f"{bundle.path}: {what}", "Build at another precision: fp32, w8a16 or w16a16.")
    rows = values.reshape(len(specs), len(chunk), *specs[0].shape)
    return {spec.name: row for spec, row in zip(specs, rows, strict=True)}
