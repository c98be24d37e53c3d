"""Measures a phone's speed and temperatures on the same windows, repeatedly, with pauses in which it cools."""

import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundler import __version__
from bundler.bundle import Bundle, read_bundle
from bundler.device.chunks import Chunk
from bundler.device.job import Settings
from bundler.device.limits import Limit
from bundler.device.phone import AdbServer
from bundler.device.probe import PhoneFacts, probe
from bundler.device.targets import Target, choose_target
from bundler.engines import ENGINES, EngineChoice
from bundler.evaluation.latency import latency_of, time_reader
from bundler.model.sdk import open_sdk
from bundler.scheduler.member import Member, Shared, Wish
from bundler.scheduler.queue import Board, ends_of
from bundler.scheduler.supply import supply_of
from bundler.scheduler.worker import Worker
from bundler.types import Progress, Runtime, silent

SCHEMA = 1
WINDOWS = 100

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class BenchRequest:
    """Runs on the only phone if `devices` is empty. Each run starts the engine once on the bundle's first `windows`
    (None: up to WINDOWS). `warm_up` runs precede the `repeats` that count; `cool_down_s` is the pause between two."""

    runtime: Runtime = "cpu"
    devices: Sequence[str] = ()
    engine: EngineChoice = "auto"
    warm_up: int = 1
    repeats: int = 5
    cool_down_s: float = 10.0
    windows: int | None = None
    perf_profile: str = "burst"
    sdk: Path | None = None
    timeout_s: float = 3600.0


def bench(path: Path, server: AdbServer, request: BenchRequest, progress: Progress) -> Json:
    """Returns the document (docs/json.md) of a measurement; changes no run of the bundle.

    Raises:
        InputError, PhoneError, RunFailed, OutputsInvalid, TimeUp; UsageError: several phones
    """
    sdk = open_sdk(request.sdk) if request.sdk else None
    limit, bundle = Limit(request.timeout_s), read_bundle(path)
    target = choose_target(request.devices, server, "bench measures one phone at a time")
    chunk = Chunk(0, min(len(bundle.manifest.windows), request.windows or WINDOWS))
    with tempfile.TemporaryDirectory(prefix="mbqa-bench-") as name:
        folders, repeats = [], []
        for number in range(request.warm_up + request.repeats):
            counts = number >= request.warm_up
            progress("measuring" if counts else "warming up", number, request.warm_up + request.repeats)
            if number:
                limit.pause(request.cool_down_s, "letting the phone cool")
            folder = Path(name) / str(number)
            member, after = _run_once(bundle, target, request, chunk, folder, limit)
            reader = time_reader(sdk, ENGINES[member.engine])
            if counts:
                folders.append(folder)
                latency = latency_of([folder], request.runtime, reader)
                repeats.append({"before": _heat(member.facts), "after": _heat(after), "latency": latency})
        overall = latency_of(folders, request.runtime, reader)
    return {
        "schema": SCHEMA,
        "made_by": f"mbqa-bundle {__version__}",
        "bundle": bundle.id,
        "model": bundle.manifest.model.name,
        "precision": bundle.manifest.model.precision,
        "runtime": request.runtime,
        "engine": member.engine,
        "perf_profile": request.perf_profile,
        "phone": {"name": target.name, "soc": after.soc_model, "model": after.model},
        "windows": len(chunk),
        "warm_up": request.warm_up,
        "cool_down_s": request.cool_down_s,
        "repeats": repeats,
        "overall": overall,
    }


def _run_once(
    bundle: Bundle, target: Target, request: BenchRequest, chunk: Chunk, folder: Path, limit: Limit
) -> tuple[Member[Target], PhoneFacts]:
    """Runs the chunk in a separate job and keeps its outputs and times in `folder`; returns the phone with its facts
    before the run, and its facts after it. Progress is reported by repeat only."""
    folder.mkdir()
    member = Member.of(target, bundle, Wish(request.runtime, request.engine), limit)
    run_id, profile = secrets.token_hex(8), request.perf_profile
    settings = Settings(run_id, request.runtime, profile, chunk=len(chunk), engine=member.engine)
    board = Board([chunk], (), ends_of(bundle.manifest.windows))
    with tempfile.TemporaryDirectory(prefix=".spool-", dir=folder) as name:
        spool = Path(name)
        Worker(member, Shared(supply_of(bundle, spool), settings, folder, board, limit, silent, spool)).work()
    return member, probe(target.find(limit))


def _heat(facts: PhoneFacts) -> Json:
    return {"hottest_celsius": facts.hottest_celsius, "battery_celsius": facts.battery_celsius}


COLUMNS = ("repeat", "init ms", "mean ms", "p50", "p90", "p99", "before °C", "after °C")


def rows(document: Json) -> list[tuple[str, ...]]:
    """Returns one row for each repeat, and one for all; unknown values are dashes."""
    each = [
        (str(number), *_times(one["latency"]), *(_number(one[when]["hottest_celsius"]) for when in ("before", "after")))
        for number, one in enumerate(document["repeats"], 1)
    ]
    return [*each, ("all", *_times(document["overall"]), "", "")]


def _times(latency: Json | None) -> tuple[str, ...]:
    told = latency or {"init_ms": None, "inference_ms": {}}
    return _number(told["init_ms"]), *(_number(told["inference_ms"].get(key)) for key in ("mean", "p50", "p90", "p99"))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
