"""Runs a bundle on Qualcomm's simulator, without a phone: on this computer or on a Dask cluster."""

import secrets
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bundler import layout
from bundler.bundle import Bundle, Sample, read_bundle
from bundler.device.job import Settings
from bundler.dlc.child import Task, cores
from bundler.errors import UsageError
from bundler.runs.answers import looking
from bundler.runs.owner import owning
from bundler.runs.record import Part, Run, begin, newest_run
from bundler.scheduler.simulators import SIMULATES, Here, Workers, simulate, simulator_of
from bundler.soc import Soc
from bundler.types import Progress, Runtime, Seen, silent

LARGEST_CHUNK = 16  # windows that an interruption may cost
CHUNKS_A_WORKER = 8  # at least, so that all workers finish at about the same time


@dataclass(frozen=True, kw_only=True)
class SimulateRequest:
    """`soc`: the chip whose DSP is simulated (None: the bundle's); `sample`: only these questions; `workers`: processes
    on this computer (None: one a core), unless `cluster` is the address of a Dask scheduler, which with `insecure` may
    be on another computer without TLS; `restart`: do not resume an interrupted run."""

    runtime: Runtime = "dsp"
    soc: Soc | None = None
    sample: Sample | None = None
    workers: int | None = None
    cluster: str | None = None
    insecure: bool = False
    restart: bool = False


def simulate_bundle(
    path: Path,
    request: SimulateRequest,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda _: None,
    seen: Seen | None = None,
) -> Run:
    """Computes the bundle's logits as the runtime does and keeps them as a run of phone `simulator`, or resumes an
    interrupted run. The logits do not depend on the number of workers.

    tell: takes messages that are of interest before the end; seen: takes the answers as they arrive.

    Raises:
        InputError: the bundle is refused; SocUnfit; NoConverter; RunInUse; OutputsInvalid; HostStorageFailed;
        ExtraMissing, ClusterUnusable
    """
    progress("checking the bundle", 0, None)
    whole = read_bundle(path)
    soc, task = simulator_of(whole, request.runtime, request.soc)
    bundle, name = whole.of(request.sample), f"simulator-{soc.name}" if request.runtime == "dsp" else "simulator"
    with owning(layout.run_folder(path, request.runtime, [name]), "simulate"):
        run = None if request.restart else _unfinished(whole, name, request)
        with closing(_workers(bundle, request, task, tell)) as workers:
            run = run or begin(bundle, [name], _settings(bundle, request, workers.width), simulated=True)
            look = looking(bundle, run.folder(path), run.settings.chunk, seen)
            return simulate(bundle, run, workers, Part(name, soc.name, SIMULATES[request.runtime]), progress, look)


def _settings(bundle: Bundle, request: SimulateRequest, width: int) -> Settings:
    windows = len(bundle.manifest.windows)
    if not windows:
        raise UsageError("the sample holds no question", "Give --limit or --sample of at least 1.")
    chunk = max(1, min(LARGEST_CHUNK, windows // (width * CHUNKS_A_WORKER)))
    return Settings(id=secrets.token_hex(8), runtime=request.runtime, perf_profile="", chunk=chunk, engine="qnn")


def _unfinished(bundle: Bundle, name: str, request: SimulateRequest) -> Run | None:
    """Returns the last run of this simulator if it is unfinished and of the same questions."""
    last = newest_run(bundle, request.runtime, [name])
    if last is None or last.finished or not last.simulated or last.sample != request.sample:
        return None
    return last


def _workers(bundle: Bundle, request: SimulateRequest, task: Task, tell: Callable[[str], None]) -> Workers:
    manifest = bundle.manifest
    if request.cluster is not None:
        from bundler.scheduler.cluster import Cluster

        sha256 = manifest.files[f"{layout.DEVICE}/{layout.MODEL}"].sha256
        return Cluster(request.cluster, task, sha256, manifest.inputs, manifest.outputs, request.insecure, tell)
    return Here(task, manifest.inputs, manifest.outputs, request.workers or cores())
