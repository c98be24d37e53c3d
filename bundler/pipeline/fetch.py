"""Fetches a run's outputs, from the phones if necessary, and decodes the answers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler import layout
from bundler.bundle import Bundle, read_bundle
from bundler.device.job import PhoneJob
from bundler.device.limits import Limit
from bundler.device.phone import AdbServer
from bundler.device.targets import choose_targets, target_of
from bundler.errors import NoRun, PhoneError, RunUnfinished
from bundler.qa.spans import USUAL, Decoding
from bundler.runs.answers import answered, looking
from bundler.runs.owner import owning
from bundler.runs.plausibility import doubts
from bundler.runs.predictions import write_answers
from bundler.runs.record import Run, begin, newest_run
from bundler.scheduler.member import Member, Wish
from bundler.scheduler.phones import WhenInterrupted, Work, carry_on
from bundler.types import RUNTIMES, Answer, Progress, Question, Runtime, Seen, silent

TOLD_EACH = 1000  # answers


@dataclass(frozen=True, kw_only=True)
class FetchRequest:
    """Selects the run, by phones and runtime if they are given. `timeout_s` is for everything together."""

    devices: Sequence[str] = ()
    runtime: Runtime | None = None
    timeout_s: float = 3600.0
    when_interrupted: WhenInterrupted = "leave"
    decoding: Decoding = USUAL


@dataclass(frozen=True)
class Fetched:
    """A run with written answers, the decoding that chose them, and the reasons to doubt its logits, if any."""

    bundle: Bundle
    run: Run
    decoding: Decoding
    doubts: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Returns the path of answers.json."""
        return self.run.folder(self.bundle.path) / layout.ANSWERS

    def answered(self) -> Iterator[tuple[Question, Answer]]:
        """Yields the questions in order with their answers, which are decoded from the outputs during the iteration.

        Raises:
            OutputsInvalid: an output cannot be read; BundleInvalid
        """
        folder = self.run.folder(self.bundle.path)
        return answered(self.bundle, folder, self.run.settings.chunk, self.decoding)


def fetch_answers(
    path: Path, server: AdbServer, request: FetchRequest, progress: Progress = silent, seen: Seen | None = None
) -> Fetched:
    """Decodes the newest run's outputs and writes answers.json and the related files into the run's folder. Waits for a
    run that is unfinished or in use by another command, and resumes it if it stopped. A sample's answers are of its
    questions only. `seen` takes answers as they arrive, during the wait.

    Raises:
        InputError: there is no such bundle or run, or only the command that began it can finish it; PhoneError,
        RunFailed, OutputsInvalid, TimeUp, Interrupted
    """
    limit = Limit(request.timeout_s)
    progress("checking the bundle", 0, None)
    bundle = read_bundle(path)
    run = newest_run(bundle, request.runtime, request.devices) or _found_on_a_phone(bundle, server, request, limit)
    folder = run.folder(path)
    with owning(folder, "fetch-answers", limit, progress):
        run = newest_run(bundle, run.settings.runtime, run.phones) or run  # another command may have finished it
        if not run.finished and (run.simulated or run.cluster):
            command = "simulate" if run.simulated else "deploy --cluster ADDRESS"
            raise RunUnfinished(folder, command, run.settings.runtime)
        bundle = bundle.of(run.sample)
        if not run.finished:
            wish = Wish(run.settings.runtime, run.settings.engine, run.settings.fallback or None)
            members = [Member.of(target_of(name, server), bundle, wish, limit) for name in run.phones]
            look = looking(bundle, folder, run.settings.chunk, seen, request.decoding)
            run = carry_on(Work(bundle, run, members, limit, progress, False, request.when_interrupted, look))
        fetched = Fetched(bundle, run, request.decoding, doubts(bundle, folder, run.settings.chunk))
        answers = _told(fetched.answered(), len(bundle.questions), progress)
        write_answers(bundle, run, answers, fetched.doubts)
    return fetched


def _found_on_a_phone(bundle: Bundle, server: AdbServer, request: FetchRequest, limit: Limit) -> Run:
    """Finds a run of this bundle that another computer began, by its job on a phone.

    Raises:
        NoRun: no phone has one; PhoneError: a requested phone is not usable.
    """
    try:
        targets = choose_targets(request.devices, server)
        jobs = [
            (target, PhoneJob(target.find(limit), bundle.id, runtime)) for target in targets for runtime in RUNTIMES
        ]
        found = [(target, status) for target, job in jobs if (status := job.status()).settings]
    except PhoneError as error:
        if request.devices:
            raise
        raise NoRun(bundle.path, request.runtime, request.devices) from error
    for target, status in found:
        settings = status.settings
        if settings and (status.alive or status.done) and request.runtime in (None, settings.runtime):
            return begin(bundle, [target.name], settings)
    raise NoRun(bundle.path, request.runtime, request.devices)


def _told(
    pairs: Iterable[tuple[Question, Answer]], total: int, progress: Progress
) -> Iterator[tuple[Question, Answer]]:
    """Yields the pairs unchanged and reports progress."""
    for number, pair in enumerate(pairs):
        if number % TOLD_EACH == 0:
            progress("decoding the answers", number, total)
        yield pair
