"""`--precision auto`: chooses the smallest precision that keeps float32's answers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bundler.bundle import Trial
from bundler.errors import ModelInvalid, SocUnfit
from bundler.evaluation.check import Judge
from bundler.model.graph import FitGraph
from bundler.model.make import Job, Made, Precision, Recipe, round_graph, write_dlc
from bundler.types import Progress

LADDER: tuple[tuple[Precision, bool], ...] = (
    ("w8a8", False), ("w8a8", True), ("w8a16", False), ("w16a16", False), ("fp16", False),
)  # fmt: skip
"""Precisions, and whether `--mixed` goes with them; the smallest first."""


@dataclass(frozen=True)
class Chosen:
    """The chosen recipe, its result, and all trials, the chosen one last."""

    recipe: Recipe
    made: Made
    trials: tuple[Trial, ...]


def choose_precision(job: Job, fit: FitGraph, judge: Judge, keep: float, dlc: Path, progress: Progress) -> Chosen:
    """Writes `dlc` at the first precision of LADDER that keeps this share of float32's answers on the judge's windows.

    ONNX Runtime on this computer quickly rules out precisions. The DSP's simulator decides. If none keeps as many, the
    one that keeps most is chosen.

    Raises:
        SocUnfit: the chip's DSP computes none of them; ModelInvalid, OperatorUnsupported, DlcInvalid, NoConverter
    """
    trials: list[Trial] = []
    for recipe in _recipes(job):
        progress(f"trying {_name(recipe)}", 0, None)
        chosen = _tried(replace(job, recipe=recipe), fit, judge, keep, dlc, progress, trials)
        if chosen is not None:
            return chosen
    if not trials:
        what = "its DSP computes none of the precisions that --precision auto tries"
        raise SocUnfit(job.soc.name, job.soc.market, what, "Give a precision for the CPU or the GPU: --precision fp16.")
    best = max(trials, key=lambda trial: min(trial.here.share, trial.simulator.share if trial.simulator else 1.0))
    recipe = next(each for each in _recipes(job) if (each.precision, each.mixed) == (best.precision, best.mixed))
    trials.remove(best)
    last = _tried(replace(job, recipe=recipe), fit, judge, 0.0, dlc, progress, trials)
    assert last is not None  # it keeps more than nothing
    return last


def _recipes(job: Job) -> Iterator[Recipe]:
    """Yields the recipes of LADDER that the chip computes and a simulator of it runs."""
    for precision, mixed in LADDER:
        if precision in job.soc.simulated.split():
            yield replace(job.recipe, precision=precision, mixed=mixed)


def _name(recipe: Recipe) -> str:
    return f"{recipe.precision} --mixed" if recipe.mixed else recipe.precision


def _tried(
    job: Job, fit: FitGraph, judge: Judge, keep: float, dlc: Path, progress: Progress, trials: list[Trial]
) -> Chosen | None:
    """Returns the recipe's result, or None if it keeps too few answers; adds to `trials`."""
    try:
        rounded = round_graph(job, fit, progress)
    except ModelInvalid:  # it exceeds float16
        return None
    here = judge.check(rounded.graph.logits(judge.feeds))
    trial = Trial(job.recipe.precision, job.recipe.mixed, here)
    if here.share < keep:
        trials.append(trial)
        return None
    try:
        made = write_dlc(job, fit, rounded, dlc, progress)
    except ModelInvalid:
        return None
    check = judge.check_dlc(dlc, job.soc, progress)
    trials.append(replace(trial, simulator=check, dlc_bytes=made.dlc_bytes))
    return Chosen(job.recipe, made, tuple(trials)) if check.share >= keep else None
