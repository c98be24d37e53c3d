"""Chooses and names the runs that an evaluation compares, and checks that they belong together."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bundler import layout
from bundler.bundle import Bundle, Sample, read_bundle
from bundler.errors import NoRun, RunsDiffer
from bundler.runs.record import Run, runs_of
from bundler.types import RUNTIMES


@dataclass(frozen=True)
class Entrant:
    """A finished run with a name that is unique in the evaluation."""

    name: str
    bundle: Bundle
    run: Run

    @property
    def folder(self) -> Path:
        return self.run.folder(self.bundle.path)


@dataclass(frozen=True)
class Chosen:
    """The runs to compare, and messages about skipped ones."""

    entrants: tuple[Entrant, ...]
    passed_over: tuple[str, ...]


def choose_entrants(
    paths: Sequence[Path], runtimes: Sequence[str] = (), devices: Sequence[str] = (), engine: str | None = None
) -> Chosen:
    """Returns all finished runs of the bundles, limited to these runtimes, phones and engine if given. Skips runs of
    another sample of the questions.

    Raises:
        NoRun: a bundle has none; RunsDiffer: the bundles are not of the same questions and model; BundleInvalid
    """
    entrants: list[Entrant] = []
    passed_over: list[str] = []
    for path in dict.fromkeys(paths):
        bundle = read_bundle(path)
        if entrants:
            check_kin(entrants[0].bundle, bundle)
        runs = [run for run in runs_of(bundle) if _is_meant(run, runtimes, devices, engine)]
        finished = [run for run in runs if run.finished]
        if not finished:
            raise NoRun(path, ", ".join(filter(None, (*runtimes, engine))) or None, devices)
        passed_over += [f"{run.folder(path)}: the run is not finished" for run in runs if not run.finished]
        passed_over += [f"{folder}: a run of an earlier build" for folder in _strangers(bundle)]
        order = sorted(finished, key=lambda run: (RUNTIMES.index(run.settings.runtime), run.phones))
        entrants += [
            Entrant(f"{run.settings.runtime} {_precision(bundle)}", bundle.of(run.sample), run) for run in order
        ]
    sample = _questions_meant([entrant.run for entrant in entrants])
    others = [entrant for entrant in entrants if entrant.run.sample != sample]
    passed_over += [f"{entrant.folder}: a run of other questions" for entrant in others]
    chosen = [entrant for entrant in entrants if entrant.run.sample == sample]
    return Chosen(tuple(_told_apart(chosen)), tuple(passed_over))


def _questions_meant(runs: Sequence[Run]) -> Sample | None:
    """Returns None, for all questions, if a run has them all; else the newest run's sample."""
    return None if any(run.sample is None for run in runs) else max(runs, key=lambda run: run.started).sample


def check_kin(one: Bundle, other: Bundle) -> None:
    """Raises RunsDiffer if the bundles differ in more than their DLCs."""
    model = layout.REFERENCE if any(_sum(bundle, layout.REFERENCE) for bundle in (one, other)) else layout.MODEL
    folder = layout.HOST if model == layout.REFERENCE else layout.DEVICE
    compared = {
        "another model": _sum(one, model, folder) == _sum(other, model, folder),
        "another tokenizer": _same(one, other, layout.TOKENIZER),
        "other questions": _same(one, other, layout.QUESTIONS),
        "other windows of the same questions": _same(one, other, layout.WINDOWS, layout.SUMS, layout.OFFSETS),
        "another rule for questions without answer": (
            one.manifest.may_be_unanswerable == other.manifest.may_be_unanswerable
        ),
        "another longest answer": one.manifest.max_answer_tokens == other.manifest.max_answer_tokens,
    }
    different = [what for what, same in compared.items() if not same]
    if different:
        raise RunsDiffer(other.path, one.path, different[0])


def _sum(bundle: Bundle, name: str, folder: str = layout.HOST) -> str | None:
    entry = bundle.manifest.files.get(f"{folder}/{name}")
    return entry.sha256 if entry else None


def _same(one: Bundle, other: Bundle, *names: str) -> bool:
    return all(_sum(one, name) == _sum(other, name) for name in names)


def _is_meant(run: Run, runtimes: Sequence[str], devices: Sequence[str], engine: str | None) -> bool:
    if engine not in (None, run.settings.by.name):
        return False
    return (not runtimes or run.settings.runtime in runtimes) and (not devices or bool(set(devices) & set(run.phones)))


def _strangers(bundle: Bundle) -> list[Path]:
    """Returns the folders of the bundle's runs that are not of this build."""
    records = sorted((bundle.path / layout.RUNS).glob(f"*/{layout.RUN}"))
    return [record.parent for record in records if Run.read(record).bundle_id != bundle.id]


def _precision(bundle: Bundle) -> str:
    return bundle.manifest.model.precision or "DLC"


def _told_apart(entrants: Sequence[Entrant]) -> list[Entrant]:
    """Distinguishes runs of the same name by adding their phones, their bundle's folder, or a number."""
    named = list(entrants)
    more: list[Callable[[int, Entrant], str]] = [
        lambda _, entrant: "+".join(entrant.run.phones),
        lambda _, entrant: entrant.bundle.path.name,
        lambda number, _: str(number + 1),
    ]
    for tell in more:
        counts = Counter(entrant.name for entrant in named)
        named = [
            replace(entrant, name=f"{entrant.name} {tell(number, entrant)}") if counts[entrant.name] > 1 else entrant
            for number, entrant in enumerate(named)
        ]
    return named
