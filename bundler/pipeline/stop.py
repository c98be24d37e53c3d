"""Ends a bundle's runs on phones."""

from collections.abc import Sequence
from pathlib import Path

from bundler.bundle import read_bundle
from bundler.device.job import PhoneJob
from bundler.device.limits import Limit
from bundler.device.phone import AdbServer
from bundler.device.targets import choose_targets, target_of
from bundler.runs.record import runs_of
from bundler.types import RUNTIMES, Runtime


def stop_runs(path: Path, devices: Sequence[str], server: AdbServer) -> list[tuple[str, Runtime]]:
    """Ends the bundle's jobs on these phones, or on those of its newest run; returns phone and runtime of each job.

    Raises:
        InputError: there is no such bundle; PhoneError
    """
    bundle = read_bundle(path)
    of_phones = [] if devices else [run for run in runs_of(bundle) if not run.simulated and not run.cluster]
    run = of_phones[-1] if of_phones else None
    targets = [target_of(name, server) for name in run.phones] if run else choose_targets(devices, server)
    stopped = []
    for target in targets:
        phone = target.find(Limit())
        for runtime in RUNTIMES:
            job = PhoneJob(phone, bundle.id, runtime)
            if job.status().alive:
                job.stop()
                stopped.append((target.name, runtime))
    return stopped
