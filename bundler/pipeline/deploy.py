"""A bundle onto phones, and run there."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bundler import layout
from bundler.bundle import Bundle, read_bundle
from bundler.device.job import Settings
from bundler.device.limits import Limit
from bundler.device.phone import AdbServer
from bundler.device.targets import choose_targets
from bundler.engines import EngineChoice, EngineName
from bundler.errors import UsageError
from bundler.runs.answers import looking
from bundler.runs.owner import owning
from bundler.runs.record import Run, begin, newest_run
from bundler.runs.verify import verify_run
from bundler.scheduler.phones import WhenInterrupted, Work, carry_on, launch
from bundler.scheduler.worker import Member
from bundler.types import Progress, Runtime, Seen, silent

LARGEST_CHUNK = 500  # windows: each chunk costs one start of the engine, which loads the model
CHUNKS_A_PHONE = 4  # of several phones, so that the fast ones can do more


@dataclass(frozen=True, kw_only=True)
class DeployRequest:
    """How to run a bundle, and on which phones: `devices` as --device takes them, or all that are attached with
    `everywhere`; without either the only one. `chunk`: windows at a time (None: as fits); `restart`: do not go on with
    an unfinished run; `detach`: do not wait for the end; `timeout_s` is for everything together; `verify`: compare some
    logits with the reference's; their cosine is to reach `verify_threshold` (None: as the precision lets expect)."""

    runtime: Runtime = "cpu"
    devices: Sequence[str] = ()
    engine: EngineChoice = "auto"
    everywhere: bool = False
    fallback: Runtime | None = None
    perf_profile: str = "burst"
    platform_options: str = ""
    chunk: int | None = None
    restart: bool = False
    detach: bool = False
    timeout_s: float = 3600.0
    when_interrupted: WhenInterrupted = "leave"
    verify: bool = False
    verify_threshold: float | None = None


def deploy_bundle(
    path: Path,
    server: AdbServer,
    request: DeployRequest,
    progress: Progress = silent,
    seen: Seen | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> Run:
    """Pushes the bundle to the phones, as far as it is not there yet, runs it, and brings the outputs into the run's
    folder; goes on with a run that was not finished. With `detach` it returns as soon as the phones are at it. `seen`
    takes the answers as they come, `warn` what is known not to work on a phone.

    Raises:
        InputError: the bundle is refused; PhoneError: a phone is; RunInUse: another process works on the run;
        RunFailed, OutputsInvalid, TimeUp, Interrupted; UsageError: `verify` and `detach`
    """
    if request.verify and request.detach:
        raise UsageError("--verify does not go with --detach", "Wait for the end of the run: leave --detach out.")
    limit = Limit(request.timeout_s)
    progress("checking the bundle", 0, None)
    bundle = read_bundle(path)
    progress("looking at the phones", 0, None)
    targets = choose_targets(request.devices, server, everything=request.everywhere)
    wanted = _settings(bundle, request, len(targets))
    names = [target.name for target in targets]
    with owning(layout.run_folder(path, request.runtime, names), "deploy"):
        left = None if request.restart else _unfinished(bundle, names, wanted)
        settings = left.settings if left else wanted
        members = [Member.of(target, bundle, settings, limit) for target in targets]
        for member in members:
            for known in member.known_limits(bundle):
                warn(f"phone {member.target.name}: {known.warning} {known.remedy}")
        run = left or begin(bundle, names, replace(settings, engine=_one_engine(members)))
        look = looking(bundle, run.folder(path), run.settings.chunk, seen)
        work = Work(bundle, run, members, limit, progress, when_interrupted=request.when_interrupted, look=look)
        if request.detach:
            launch(work)
            return run
        done = carry_on(work)
        look()
        return verify_run(bundle, done, request.verify_threshold) if request.verify else done


def _settings(bundle: Bundle, request: DeployRequest, phones: int) -> Settings:
    windows = len(bundle.manifest.windows)
    fitting = LARGEST_CHUNK if phones == 1 else -(-windows // (phones * CHUNKS_A_PHONE))
    return Settings(
        id=secrets.token_hex(8),
        runtime=request.runtime,
        perf_profile=request.perf_profile,
        platform_options=request.platform_options,
        fallback=request.fallback or "",
        engine=request.engine,
        chunk=request.chunk or max(1, min(LARGEST_CHUNK, fitting)),
    )


def _unfinished(bundle: Bundle, names: Sequence[str], wanted: Settings) -> Run | None:
    """The last run on these phones, where it is not finished and is done as wanted."""
    last = newest_run(bundle, wanted.runtime, names)
    if last is None or last.finished:
        return None
    engine = last.settings.engine if wanted.engine == "auto" else wanted.engine
    return last if replace(last.settings, id=wanted.id) == replace(wanted, engine=engine) else None


def _one_engine(members: Sequence[Member]) -> EngineName:
    """The engine of all phones.

    Raises:
        UsageError: they would not take the same one.
    """
    first, *others = sorted({member.settings.by.name for member in members}, reverse=True)
    if others:
        raise UsageError("not every phone has the same programs", "Name one of them for all: --engine snpe or qnn.")
    return first
