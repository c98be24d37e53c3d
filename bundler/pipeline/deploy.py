"""A bundle onto phones, and run there."""

import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bundler import layout
from bundler.bundle import Bundle, read_bundle
from bundler.device.job import Settings
from bundler.device.limits import Limit
from bundler.device.phone import AdbServer
from bundler.device.probe import PhoneFacts, probe
from bundler.device.targets import Target, choose_targets
from bundler.engines import EngineChoice, EngineName
from bundler.errors import UsageError
from bundler.runs.answers import looking
from bundler.runs.owner import owning
from bundler.runs.record import Run, begin, newest_run
from bundler.runs.verify import verify_run
from bundler.scheduler.ahead import ahead
from bundler.scheduler.member import Member
from bundler.scheduler.phones import WhenInterrupted, Work, carry_on, launch
from bundler.soc import Soc
from bundler.types import Progress, Runtime, Seen, silent

LARGEST_CHUNK = 500  # windows: each chunk costs one start of the engine, which loads the model
CHUNKS_A_PHONE = 4  # of several phones, so that the fast ones can do more


@dataclass(frozen=True, kw_only=True)
class DeployRequest:
    """How to run a bundle, and on which phones: `devices` as --device takes them, or all that are attached with
    `everywhere`; without either the only one. `chunk`: windows at a time (None: as fits); `restart`: do not go on with
    an unfinished run; `detach`: do not wait for the end; `timeout_s` is for everything together; `verify`: compare some
    logits with the reference's; their cosine is to reach `verify_threshold` (None: as the precision lets expect).

    With `cluster`, the address of a Dask scheduler (`insecure`: also on another computer without TLS), the phones are
    those of its hosts: of a chip, a Hexagon version, and as many as are given, or all that can do the run."""

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
    cluster: str | None = None
    insecure: bool = False
    soc: Soc | None = None
    hexagon: int | None = None
    phones: int | None = None


def deploy_bundle(
    path: Path,
    server: AdbServer,
    request: DeployRequest,
    progress: Progress = silent,
    seen: Seen | None = None,
    warn: Callable[[str], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Run:
    """Pushes the bundle to the phones, as far as it is not there yet, runs it, and brings the outputs into the run's
    folder; goes on with a run that was not finished. With `detach` it returns as soon as the phones are at it. `seen`
    takes the answers as they come, `warn` what is known not to work on a phone, `tell` what a person may want to know
    before the end.

    Raises:
        InputError: the bundle is refused; PhoneError: a phone is; RunInUse: another process works on the run;
        RunFailed, OutputsInvalid, TimeUp, Interrupted; UsageError: `verify` and `detach`; ExtraMissing, ClusterUnusable
    """
    if request.verify and request.detach:
        raise UsageError("--verify does not go with --detach", "Wait for the end of the run: leave --detach out.")
    limit = Limit(request.timeout_s)
    progress("checking the bundle", 0, None)
    asked = partial(_look_at, server, request, limit)
    looked = ahead(asked).result if request.devices else asked  # phones that are named do not wait for the bundle
    bundle = read_bundle(path)
    progress("looking at the phones", 0, None)
    if request.cluster is not None:
        return _deploy_on_cluster(bundle, request.cluster, request, limit, progress, seen, warn, tell)
    phones = looked()
    wanted = _settings(bundle, request, len(phones))
    names = [target.name for target, _ in phones]
    with owning(layout.run_folder(path, request.runtime, names), "deploy"):
        left = None if request.restart else _unfinished(bundle, names, wanted)
        settings = left.settings if left else wanted
        members = [Member.fitting(target, target.serial, facts, bundle, settings) for target, facts in phones]
        _warn_of_limits(bundle, members, warn)
        run = left or begin(bundle, names, replace(settings, engine=_one_engine(members)))
        look = looking(bundle, run.folder(path), run.settings.chunk, seen)
        work = Work(bundle, run, members, limit, progress, when_interrupted=request.when_interrupted, look=look)
        if request.detach:
            launch(work)
            return run
        done = carry_on(work)
        look()
        return verify_run(bundle, done, request.verify_threshold) if request.verify else done


def _look_at(server: AdbServer, request: DeployRequest, limit: Limit) -> list[tuple[Target, PhoneFacts]]:
    """The phones that are meant, and what each says of itself. Raises: PhoneError, NoAdb, UsageError"""
    targets = choose_targets(request.devices, server, everything=request.everywhere)
    facts = [ahead(partial(_facts, target, limit)) for target in targets]
    return [(target, told.result()) for target, told in zip(targets, facts, strict=True)]


def _facts(target: Target, limit: Limit) -> PhoneFacts:
    return probe(target.find(limit))


def _deploy_on_cluster(
    bundle: Bundle,
    address: str,
    request: DeployRequest,
    limit: Limit,
    progress: Progress,
    seen: Seen | None,
    warn: Callable[[str], None],
    tell: Callable[[str], None],
) -> Run:
    """The same with phones of a cluster's hosts. Its run is named after none of them, because others may go on."""
    from bundler.scheduler.hosts import Hosts
    from bundler.scheduler.remote import Recruits, RemoteWorker

    if request.detach:
        raise UsageError("--detach is for phones here", "A run on a cluster ends with its command: leave it out.")
    path, names = bundle.path, [layout.CLUSTER]
    with owning(layout.run_folder(path, request.runtime, names), "deploy"):
        left = None if request.restart else newest_run(bundle, request.runtime, names)
        hosts = Hosts(address, tell, insecure=request.insecure)
        try:
            wanted = _settings(bundle, request, 1)
            left = _same(left, wanted if request.chunk or left is None else replace(wanted, chunk=left.settings.chunk))
            recruits = Recruits(hosts, bundle, request.soc, request.hexagon, request.phones, tell)
            members = recruits.first(left.settings if left else wanted)
            _warn_of_limits(bundle, members, warn)
            chosen = replace(_settings(bundle, request, max(2, len(members))), engine=_one_engine(members))
            run = left or begin(bundle, names, chosen, cluster=True)
            look = looking(bundle, run.folder(path), run.settings.chunk, seen)
            for member in members:
                member.settings = replace(member.settings, id=run.settings.id, chunk=run.settings.chunk)

            def more(at_work: Collection[str]) -> Sequence[Member[Any]]:
                come = recruits.more(run.settings, at_work)
                _warn_of_limits(bundle, come, warn)
                return come

            work = Work(
                bundle, run, members, limit, progress, when_interrupted="stop", look=look,
                worker=partial(RemoteWorker, hosts), more=more,
            )  # fmt: skip
            done = carry_on(work)
        finally:
            hosts.close()
        look()
        return verify_run(bundle, done, request.verify_threshold) if request.verify else done


def _warn_of_limits(bundle: Bundle, members: Sequence[Member[Any]], warn: Callable[[str], None]) -> None:
    for member in members:
        for known in member.known_limits(bundle):
            warn(f"phone {member.target.name}: {known.warning} {known.remedy}")


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
    return _same(newest_run(bundle, wanted.runtime, names), wanted)


def _same(last: Run | None, wanted: Settings) -> Run | None:
    if last is None or last.finished:
        return None
    engine = last.settings.engine if wanted.engine == "auto" else wanted.engine
    return last if replace(last.settings, id=wanted.id) == replace(wanted, engine=engine) else None


def _one_engine(members: Sequence[Member[Any]]) -> EngineName:
    """The engine of all phones.

    Raises:
        UsageError: they would not take the same one.
    """
    first, *others = sorted({member.settings.by.name for member in members}, reverse=True)
    if others:
        raise UsageError("not every phone has the same programs", "Name one of them for all: --engine snpe or qnn.")
    return first
