"""Measures `simulate`: the cost of distributing chunks to processes, and the gain of a second worker."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from benchmarks.ground import Ground
from benchmarks.loads import quiet
from benchmarks.race import Sides
from bundler.bundle import Bundle
from bundler.device.job import Settings
from bundler.dlc.child import Child, Networks
from bundler.runs.record import Part, begin
from bundler.runs.reference import window_inputs
from bundler.scheduler.simulators import compute, simulate, simulator_of
from bundler.types import TensorSpec
from tests.finished import finished_bundle

WINDOWS, FEW = 200, 4
CHUNK = 16
SLEEP_S = 0.02


class Sleeping:
    """Workers that sleep for each window."""

    def __init__(self, width: int, outputs: Sequence[TensorSpec], windows: int) -> None:
        self.width, self._threads = width, ThreadPoolExecutor(width)
        self._bytes = 4 * sum(int(np.prod(spec.shape)) for spec in outputs)
        self._inputs, self._lock = windows, threading.Lock()

    def submit(self, raw: bytes) -> "Future[bytes]":
        return self._threads.submit(self._sleep, len(raw) // self._inputs)

    def _sleep(self, windows: int) -> bytes:
        time.sleep(SLEEP_S * windows)
        return bytes(self._bytes * windows)

    def close(self) -> None:
        self._threads.shutdown()


def two_beside_one(ground: Ground) -> Sides:
    """Compares the seconds of a run by two workers that only sleep with those by one."""
    bundle = ground.made(_bundle)
    return Sides(lambda: _slept(bundle, 2), lambda: _slept(bundle, 1))


def beside_a_loop(ground: Ground) -> Sides:
    """Compares the seconds of a run by one process with a bare loop over the same windows in one process."""
    bundle = ground.made(_bundle)
    _, task = simulator_of(bundle, "dsp", None)

    def ours() -> float:
        networks = Networks(task)
        workers = _One(networks, bundle)
        networks.execute(window_inputs(bundle, bundle.manifest.windows[0]))
        begun = time.perf_counter()
        _run(bundle, workers)
        seconds = time.perf_counter() - begun
        networks.close()
        return seconds

    def loop() -> float:
        child = Child(task)
        child.execute(window_inputs(bundle, bundle.manifest.windows[0]))
        begun = time.perf_counter()
        for window in bundle.manifest.windows:
            child.execute(window_inputs(bundle, window))
        seconds = time.perf_counter() - begun
        child.close()
        return seconds

    return Sides(ours, loop)


class _One:
    """A single process."""

    width = 1

    def __init__(self, networks: Networks, bundle: Bundle) -> None:
        self._networks, self._specs = networks, (bundle.manifest.inputs, bundle.manifest.outputs)
        self._threads = ThreadPoolExecutor(1)

    def submit(self, raw: bytes) -> "Future[bytes]":
        return self._threads.submit(compute, self._networks, *self._specs, raw)

    def close(self) -> None:
        self._threads.shutdown()


def _bundle(ground: Ground) -> Bundle:
    return finished_bundle(ground.place("simulated") / "bundle", ground.size(WINDOWS, FEW))[0]


def _slept(bundle: Bundle, width: int) -> float:
    size = 4 * sum(int(np.prod(spec.shape)) for spec in bundle.manifest.inputs)
    begun = time.perf_counter()
    _run(bundle, Sleeping(width, bundle.manifest.outputs, size))
    return time.perf_counter() - begun


def _run(bundle: Bundle, workers: Sleeping | _One) -> None:
    settings = Settings("1" * 16, "dsp", "", chunk=CHUNK, engine="qnn")
    run = replace(begin(bundle, ["simulator"], settings, simulated=True))
    simulate(bundle, run, workers, Part("simulator", "SM8650", ""), quiet, lambda: None)
    workers.close()
