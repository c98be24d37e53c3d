"""A bundle onto a phone, and run there."""

import time
from datetime import UTC, datetime
from pathlib import Path

from bundler import layout
from bundler.bundle import Bundle, FileEntry, read_bundle
from bundler.device.job import run_on_phone
from bundler.device.phone import AdbServer, Phone
from bundler.device.probe import PhoneFacts, probe
from bundler.device.store import push_bundle
from bundler.errors import NoNetRun, RuntimeUnsupported
from bundler.model.sdk import hexagon_of_part, hexagons_in
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
    files = files_for(bundle, facts)
    remote = push_bundle(phone, bundle, files, free_bytes=facts.free_bytes, progress=progress)
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
    if runtime != "dsp" or soc is None:
        return
    brought = hexagons_in(bundle.device_files)
    if not soc.has_htp:
        reason = f"its Hexagon v{soc.hexagon} has no HTP, the tensor processor that such models need"
        raise RuntimeUnsupported(phone.serial, soc.name, reason)
    precision = bundle.manifest.model.precision
    if not soc.takes(precision):
        lacks = "float16" if precision.startswith("fp") else "weights of 16 bits"
        reason = f"its Hexagon v{soc.hexagon} does not compute {lacks}, and the bundle's model is {precision}"
        hint = "Use --runtime cpu or gpu, or build with --precision w8a16."
        raise RuntimeUnsupported(phone.serial, soc.name, reason, hint)
    if brought and soc.hexagon not in brought:
        has = ", ".join(f"v{hexagon}" for hexagon in sorted(brought))
        reason = f"its Hexagon is v{soc.hexagon}, and the bundle has the libraries for {has}"
        raise RuntimeUnsupported(phone.serial, soc.name, reason, f"Build with --soc {soc.name}.")


def files_for(bundle: Bundle, facts: PhoneFacts) -> dict[str, FileEntry]:
    """The bundle's device files without those for other Hexagon versions and other chips."""
    soc = facts.soc
    if soc is None:
        return bundle.device_files
    return {
        name: entry
        for name, entry in bundle.device_files.items()
        if hexagon_of_part(name) in (None, soc.hexagon) and layout.prepared_for(name) in (None, soc.name)
    }
