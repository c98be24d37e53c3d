"""A bundle onto a phone, and run there."""

import time
from datetime import UTC, datetime
from pathlib import Path

from bundler import layout
from bundler.bundle import Bundle, read_bundle
from bundler.device.job import run_on_phone
from bundler.device.phone import AdbServer, Phone
from bundler.device.probe import PhoneFacts, probe
from bundler.device.store import push_bundle
from bundler.errors import NoNetRun, RuntimeUnsupported
from bundler.run import Run
from bundler.types import Progress, Runtime


def deploy_bundle(
    path: Path, *, server: AdbServer, serial: str | None, runtime: Runtime, timeout_s: float, progress: Progress
) -> Run:
    """Pushes the bundle to the phone, where it is not there yet, and runs it; leaves a record for fetch-answers.

    Raises:
        InputError: the bundle is refused; PhoneError: the phone is; RunFailed
    """
    progress("checking the bundle", 0, None)
    bundle = read_bundle(path)
    phone = server.find(serial)
    facts = probe(phone)
    check_fitness(phone, facts, bundle, runtime)
    remote = push_bundle(phone, bundle, free_bytes=facts.free_bytes, progress=progress)
    folder = layout.run_folder(path, runtime, phone.serial)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (layout.RUN, layout.ANSWERS):  # what they tell of is about to be overwritten on the phone
        (folder / stale).unlink(missing_ok=True)
    started, begun = datetime.now(UTC).isoformat(), time.monotonic()
    windows = len(bundle.manifest.windows)
    run_on_phone(
        phone, remote, runtime, windows=windows, timeout_s=timeout_s, log=folder / layout.LOG, progress=progress
    )
    run = Run(
        bundle_id=bundle.id,
        serial=phone.serial,
        runtime=runtime,
        soc=facts.soc_model,
        phone_model=facts.model,
        remote=str(remote),
        started=started,
        seconds=round(time.monotonic() - begun, 3),
    )
    run.save(path)
    return run


def check_fitness(phone: Phone, facts: PhoneFacts, bundle: Bundle, runtime: Runtime) -> None:
    """Refuses, before anything is pushed, what cannot work.

    Raises:
        NoNetRun, RuntimeUnsupported
    """
    if not facts.net_run and layout.NET_RUN not in bundle.device_files:
        raise NoNetRun(phone.serial)
    soc = facts.soc
    if runtime == "dsp" and soc is not None and not soc.takes_float16:
        reason = f"its Hexagon v{soc.hexagon} does not compute float16, and the bundle's model is float"
        raise RuntimeUnsupported(phone.serial, soc.name, reason)
