"""Draws the plots. A run has the same colour in all of them, shown beside its name in the table of runs.

No outside text reaches matplotlib, which would interpret formulas in it, and whose font may lack its letters.
"""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from bundler.report import statistics, svg
from bundler.report.figures import figure, is_known, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]
LONGEST_LABEL = 22
WIDTH, HEIGHT = 5.4, 3.1
SHARES = np.linspace(0, 1, 201)
EXACT_DB = 150.0
"""Layers above this have practically no error and would squeeze all others into the bottom of the plot."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "svg.hashsalt": "mbqa-bundle",  # the same drawing has the same names in it
    "font.family": "DejaVu Sans",  # included in matplotlib, so that text has the same size on every machine
    "font.size": 8.5,
    "text.color": svg.COLOURS["muted"],
    "axes.edgecolor": svg.COLOURS["grid"],
    "axes.labelcolor": svg.COLOURS["muted"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "grid.color": svg.COLOURS["grid"],
    "grid.linewidth": 0.6,
    "xtick.color": svg.COLOURS["grid"],
    "ytick.color": svg.COLOURS["grid"],
    "xtick.labelcolor": svg.COLOURS["muted"],
    "ytick.labelcolor": svg.COLOURS["muted"],
    "lines.linewidth": 1.6,
}


@dataclass(frozen=True)
class Plot:
    """A drawing with its name, its title and a caption."""

    name: str
    title: str
    caption: str
    drawing: Markup


def why_none() -> str:
    """Returns why the page has no plots; empty if it has."""
    if importlib.util.find_spec("matplotlib"):
        return ""
    return "Plots need matplotlib: pip install 'mbqa-bundle[report]', then write the report again."


def draw(document: Document) -> list[Plot]:
    """Draws the plots for which the document has figures."""
    if why_none():
        return []
    with _matplotlib():
        made = [plot(document) for plot in (_agreement, _latency, _calibration, _layers)]
    return [plot for plot in made if plot]


@contextmanager
def _matplotlib() -> Iterator[None]:
    """Loads matplotlib with our style instead of the user's; discards the font list that it would leave in HOME."""
    with tempfile.TemporaryDirectory(prefix="mbqa-matplotlib-") as folder:
        lent = "matplotlib" not in sys.modules and "MPLCONFIGDIR" not in os.environ
        if lent:
            os.environ["MPLCONFIGDIR"] = folder
        try:
            import matplotlib.font_manager
        finally:
            if lent:
                del os.environ["MPLCONFIGDIR"]
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(STYLE)
            yield


def _plot(
    name: str, title: str, caption: str, description: str, paint: Callable[["Axes"], None], labels: Sequence[str] = ()
) -> Plot:
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = canvas.add_subplot()
    axes.tick_params(length=0)
    paint(axes)
    texts = {svg.label(number, len(text)): text for number, text in enumerate(labels)}
    return Plot(name, title, caption, Markup(svg.inline(canvas, name, description, texts)))


def _colour(number: int) -> str:
    return svg.COLOURS[f"s{number % svg.SERIES}"]


def _dash(number: int) -> str:
    """Returns the line style: runs beyond the number of colours are dashed."""
    return ("-", "--", ":", "-.")[number // svg.SERIES % 4]


def _words(parts: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in parts.items())


def _agreement(document: Document) -> Plot | None:
    """Draws one row per run, grouped by precision."""
    order = list(dict.fromkeys(run["precision"] for run in document["runs"]))
    rows = [(number, run) for number, run in enumerate(document["runs"]) if run["agreement"]["questions"]]
    rows.sort(key=lambda row: order.index(row[1]["precision"]))
    if not rows:
        return None
    labels = [_short(f"{run['precision']} · {run['runtime']}") for _, run in rows]
    intervals = [statistics.interval(run["agreement"]["equal"], run["agreement"]["questions"]) for _, run in rows]

    def paint(axes: "Axes") -> None:
        for place, ((number, run), (low, high)) in enumerate(zip(rows, intervals, strict=True)):
            axes.plot([100 * low, 100 * high], [place, place], color=_colour(number), linewidth=5, alpha=0.3)
            axes.plot(
                100 * run["agreement"]["fraction"], place, "o", color=_colour(number), markersize=7, clip_on=False
            )
        axes.set_yticks(range(len(rows)), [svg.label(place, len(text)) for place, text in enumerate(labels)])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(right=100)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("answers equal to the reference’s (%)")

    caption = "The dot is the share of questions with the very same answer; the bar is its 95 % interval (Wilson)."
    words = {run["name"]: f"{percent(run['agreement']['fraction'])} %" for _, run in rows}
    return _plot("agreement", "Agreement by precision", caption, _words(words), paint, labels)


def _latency(document: Document) -> Plot | None:
    """Draws the share of inferences done by each time, the curve that shows p50 and p90."""
    known = []
    for number, run in enumerate(document["runs"]):
        timing = (run["latency"] or {}).get("inference_ms")
        values = [value for value in (timing or {}).get("values") or () if is_known(value) and value > 0]
        if values:
            known.append((number, run["name"], np.quantile(values, SHARES).tolist()))
    if not known:
        return None

    def paint(axes: "Axes") -> None:
        for number, _, values in known:
            axes.plot(values, 100 * SHARES, color=_colour(number), linestyle=_dash(number))
        if max(values[-1] for *_, values in known) > 8 * min(values[0] for *_, values in known):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.grid(which="minor", axis="x", visible=False)
            axes.tick_params(which="minor", length=0, labelsize=7)
            axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
        axes.set_yticks([0, 25, 50, 75, 90, 100])
        axes.set_xlabel("time of an inference (ms)")
        axes.set_ylabel("inferences done (%)")

    words = {
        name: f"half within {figure(values[100])} ms, 90 % within {figure(values[180])} ms" for _, name, values in known
    }
    caption = "How many of the inferences were done within a time. Steep is steady; a long top is a slow few."
    return _plot("latency", "Latency distribution", caption, _words(words), paint)


def _calibration(document: Document) -> Plot | None:
    """Draws how often answers are right, by confidence."""
    known = []
    for number, run in enumerate(document["runs"]):
        pairs = [(row["runs"][number]["confidence"], row["runs"][number]["exact"]) for row in document["questions"]]
        bins = statistics.reliability([(sure, right) for sure, right in pairs if right is not None and is_known(sure)])
        if bins:
            known.append((number, run["name"], bins))
    if not known:
        return None

    def paint(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 100], color=svg.COLOURS["muted"], linewidth=0.8, linestyle=(0, (4, 3)))
        for number, _, bins in known:
            whole = sum(one.count for one in bins)
            sizes = [12 + 90 * one.count / whole for one in bins]
            places = ([one.confidence for one in bins], [100 * one.right for one in bins])
            axes.plot(*places, color=_colour(number), linestyle=_dash(number), linewidth=1, alpha=0.6)
            axes.scatter(*places, s=sizes, color=_colour(number), linewidth=0, alpha=0.85)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-4, 104)
        axes.set_xlabel("confidence")
        axes.set_ylabel("exactly right (%)")

    words = {name: figure(100 * statistics.gap(bins)) for _, name, bins in known}
    caption = (
        "Answers sorted by confidence into ten bins; a larger dot has more of them. On the dashed line a run is right "
        f"as often as it is sure. Mean distance from it, in points: {_words(words)}."
    )
    return _plot("calibration", "Confidence against correctness", caption, _words(words), paint)


def _layers(document: Document) -> Plot | None:
    """Draws where the error comes from: the runs' layers in graph order."""
    runs = [(number, run) for number, run in enumerate(document["runs"]) if run["layers"]]
    places: dict[str, int] = {}
    for _, run in runs:
        for layer in run["layers"]:
            places.setdefault(layer["name"], len(places) + 1)
    curves = []
    for number, run in runs:
        known = [(places[layer["name"]], layer["sqnr_db"]) for layer in run["layers"]]
        points = sorted((place, ratio) for place, ratio in known if is_known(ratio) and ratio < EXACT_DB)
        if points:
            curves.append((number, run["name"], points))
    if not curves:
        return None

    def paint(axes: "Axes") -> None:
        for number, _, points in curves:
            axes.plot(*zip(*points, strict=True), color=_colour(number), linestyle=_dash(number), linewidth=1.2)
        axes.set_xlabel("layer, in the order of the graph")
        axes.set_ylabel("signal to noise (dB)")

    words = {name: f"lowest {figure(min(ratio for _, ratio in points))} dB" for _, name, points in curves}
    caption = (
        "Each layer’s output against the float32 reference’s. Lower is worse: a drop shows where an error comes from."
    )
    return _plot("layers", "Error by layer", caption, _words(words), paint)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"
