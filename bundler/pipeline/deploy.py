"""Deploys a bundle to phones and runs it there."""

import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from bundler.scheduler.member import Member, Wish
from bundler.scheduler.phones import WhenInterrupted, Work, carry_on, launch
from bundler.soc import Soc
from bundler.types import Progress, Runtime, Seen, silent

if TYPE_CHECKING:
    from bundler.scheduler.remote import Recruits

LARGEST_CHUNK = 500  # windows: each chunk costs one start of the engine, which loads the model
CHUNKS_A_PHONE = 4  # if there are several phones, so that the fast ones can do more


@dataclass(frozen=True, kw_only=True)
class DeployRequest:
    """How to run a bundle, and on which phones: `devices` as in --device, all attached ones with `everywhere`, or else
    the only one. `chunk`: windows at a time (None: automatic); `restart`: do not resume an unfinished run; `detach`: do
    not wait for the end; `timeout_s` is for everything together; `verify`: compare some logits with the reference;
    their cosine must reach `verify_threshold` (None: the threshold of the precision).

    With `cluster`, the address of a Dask scheduler (`insecure`: also on another computer without TLS), the phones are
    its hosts': filtered by chip and Hexagon version, at most `phones` of them, or all that are able to do the run."""

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
    """Pushes what the phones lack of the bundle, runs it, and collects the outputs in the run's folder; resumes an
    unfinished run. With `detach` it returns as soon as the phones work. `seen` takes the answers as they arrive, `warn`
    takes the known limits of a phone, `tell` takes messages that are of interest before the end.

    Raises:
        InputError: the bundle is refused; PhoneError: a phone is refused; RunInUse: another process works on the run;
        RunFailed, OutputsInvalid, TimeUp, Interrupted; UsageError: `verify` and `detach`; ExtraMissing, ClusterUnusable
    """
    if request.verify and request.detach:
        raise UsageError("--verify does not go with --detach", "Wait for the end of the run: leave --detach out.")
    if request.cluster is not None and request.detach:
        raise UsageError("--detach is for phones here", "A run on a cluster ends with its command: leave it out.")
    limit = Limit(request.timeout_s)
    progress("checking the bundle", 0, None)
    asked = partial(_look_at, server, request, limit)
    looked = ahead(asked).result if request.devices else asked  # named phones are probed while the bundle is read
    bundle = read_bundle(path)
    progress("looking at the phones", 0, None)
    phones = looked() if request.cluster is None else []
    names = [target.name for target, _ in phones] or [layout.CLUSTER]  # any phone of a cluster may resume the run
    chunk = request.chunk or (_fitting_chunk(bundle, len(phones)) if phones else None)
    with owning(layout.run_folder(path, request.runtime, names), "deploy"), ExitStack() as stack:
        left = _unfinished(bundle, names, request, chunk)
        wish = _wish(request, left)
        recruits = _recruits(bundle, request, tell, stack) if request.cluster is not None else None
        members: Sequence[Member[Any]] = (
            recruits.first(wish)
            if recruits is not None
            else [Member.fitting(target, target.serial, facts, bundle, wish) for target, facts in phones]
        )
        _warn_of_limits(bundle, members, warn)
        chunk = chunk or _fitting_chunk(bundle, max(2, len(members)))
        chosen = _settings(request, secrets.token_hex(8), _one_engine(members), chunk)
        run = left or begin(bundle, names, chosen, cluster=recruits is not None)
        look = looking(bundle, run.folder(path), run.settings.chunk, seen)
        work = Work(bundle, run, members, limit, progress, when_interrupted=request.when_interrupted, look=look)
        if recruits is not None:

            def more(at_work: Collection[str]) -> Sequence[Member[Any]]:
                come = recruits.more(_wish(request, run), at_work)
                _warn_of_limits(bundle, come, warn)
                return come

            work = replace(work, when_interrupted="stop", worker=recruits.worker, more=more)
        if request.detach:
            launch(work)
            return run
        done = carry_on(work)
        look()
        return verify_run(bundle, done, request.verify_threshold) if request.verify else done


def _recruits(bundle: Bundle, request: DeployRequest, tell: Callable[[str], None], stack: ExitStack) -> "Recruits":
    """Returns the phones of the cluster's hosts. Raises: ExtraMissing, ClusterUnusable"""
    from bundler.scheduler.hosts import Hosts
    from bundler.scheduler.remote import Recruits

    assert request.cluster is not None
    hosts = stack.enter_context(closing(Hosts(request.cluster, tell, insecure=request.insecure)))
    return Recruits(hosts, bundle, request.soc, request.hexagon, request.phones, tell)


def _look_at(server: AdbServer, request: DeployRequest, limit: Limit) -> list[tuple[Target, PhoneFacts]]:
    """Returns the selected phones and their facts. Raises: PhoneError, NoAdb, UsageError"""
    targets = choose_targets(request.devices, server, everything=request.everywhere)
    facts = [ahead(_facts, target, limit) for target in targets]
    return [(target, told.result()) for target, told in zip(targets, facts, strict=True)]


def _facts(target: Target, limit: Limit) -> PhoneFacts:
    return probe(target.find(limit))


def _warn_of_limits(bundle: Bundle, members: Sequence[Member[Any]], warn: Callable[[str], None]) -> None:
    for member in members:
        for known in member.known_limits(bundle):
            warn(f"phone {member.target.name}: {known.warning} {known.remedy}")


def _fitting_chunk(bundle: Bundle, phones: int) -> int:
    """Returns the number of windows in a chunk for this number of phones."""
    if phones == 1:
        return LARGEST_CHUNK
    return max(1, min(LARGEST_CHUNK, -(-len(bundle.manifest.windows) // (phones * CHUNKS_A_PHONE))))


def _settings(request: DeployRequest, run_id: str, engine: EngineName, chunk: int) -> Settings:
    return Settings(
        id=run_id,
        runtime=request.runtime,
        perf_profile=request.perf_profile,
        platform_options=request.platform_options,
        fallback=request.fallback or "",
        chunk=chunk,
        engine=engine,
    )


def _unfinished(bundle: Bundle, names: Sequence[str], request: DeployRequest, chunk: int | None) -> Run | None:
    """Returns the last run on these phones if it is unfinished and has the same settings. `chunk` None: any size."""
    last = None if request.restart else newest_run(bundle, request.runtime, names)
    if last is None or last.finished:
        return None
    engine = last.settings.engine if request.engine == "auto" else request.engine
    wanted = _settings(request, last.settings.id, engine, chunk or last.settings.chunk)
    return last if last.settings == wanted else None


def _wish(request: DeployRequest, run: Run | None) -> Wish:
    """Returns the request to the phones; an unfinished run keeps its engine."""
    return Wish(request.runtime, run.settings.engine if run else request.engine, request.fallback)


def _one_engine(members: Sequence[Member[Any]]) -> EngineName:
    """Returns the engine of all phones.

    Raises:
        UsageError: the phones would choose different engines.
    """
    first, *others = sorted({member.engine for member in members}, reverse=True)
    if others:
        raise UsageError("not every phone has the same programs", "Name one of them for all: --engine snpe or qnn.")
    return first
