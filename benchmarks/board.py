"""Shows the results of the races: as a JSON document, as a table to print, and as docs/benchmarks.md."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.machine import PACKAGES, PEERS, command, facts, filled, made_by, versions
from benchmarks.race import Race, Result, Topic

SCHEMA = 1
MODULE = "benchmarks"
COLUMNS = ("what", "beside", "ours", "peer", "least / median / most", "wanted", "")
READING = """\
Both sides of a race take turns, and begin in turns. Where at least so much is wanted, the figure of a round is how many
times as fast as its peer ours is; where at most so much, how many times the peer's cost ours has. A row without a peer
has the cost itself. Costs are medians. A target is met if the median round meets it; beside that stands how many rounds
do. Nothing here ran on a real phone: the genuine parts, the virtual phones, adb and this tool share the machine's
cores."""
ELSEWHERE = """\
`python -m benchmarks NAME` runs a topic or a single race (`--help` lists them), `--rounds N` other than three rounds,
`--json` prints every turn's cost. What takes hours is a command of its own: `python -m benchmarks.accuracy` measures
how near each precision on each runtime is to float32 (`docs/precisions.md`), where the DSP's simulator takes seconds
for a question. `python -m benchmarks.conversion` takes every precision and any model through `build`
(`docs/conversion.md`)."""


@dataclass(frozen=True)
class Absent:
    """A race without a result: its requirements are missing here, or it failed."""

    race: Race
    why: str
    failed: bool = False


Outcome = Result | Absent


@dataclass(frozen=True)
class Board:
    """All results, topic by topic. Those of a `quick` run show that everything runs, and are not judged. `load` is the
    number of processes that wanted a core in the minute before it began."""

    outcomes: Sequence[tuple[Topic, Sequence[Outcome]]]
    rounds: int
    quick: bool
    load: float
    seconds: float

    @property
    def results(self) -> list[tuple[Topic, Result]]:
        return [(topic, each) for topic, found in self.outcomes for each in found if isinstance(each, Result)]

    @property
    def absent(self) -> list[tuple[Topic, Absent]]:
        return [(topic, each) for topic, found in self.outcomes for each in found if isinstance(each, Absent)]

    @property
    def failed(self) -> bool:
        return any(each.failed for _, each in self.absent)

    @property
    def verdict(self) -> str:
        """Returns a sentence with the number of met targets and the missed ones."""
        if self.quick:
            return f"{len(self.results)} races ran, of tiny sizes: figures mean nothing, and no target is judged."
        judged = [(topic, result) for topic, result in self.results if result.met is not None]
        missed = [f"{topic.name}.{result.race.name}" for topic, result in judged if not result.met]
        told = f"{len(judged) - len(missed)} of {len(judged)} targets are met"
        return f"{told}; missed: {', '.join(missed)}." if missed else f"{told}."

    def document(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "command": command(MODULE),
            "quick": self.quick,
            "rounds": self.rounds,
            "load_before": round(self.load, 1),
            "seconds": round(self.seconds, 1),
            "machine": facts(),
            "versions": versions((*PACKAGES, *PEERS)),
            "races": [self._entry(topic, result) for topic, result in self.results],
            "left_out": [
                {"name": f"{topic.name}.{each.race.name}", "why": each.why, "failed": each.failed}
                for topic, each in self.absent
            ],
        }

    def _entry(self, topic: Topic, result: Result) -> dict[str, Any]:
        race, figures = result.race, result.figures
        return {
            "name": f"{topic.name}.{race.name}",
            "about": race.about,
            "peer": race.peer or None,
            "unit": race.unit,
            "wanted": asdict(race.wanted) if race.wanted else None,
            "ours": list(result.ours),
            "theirs": list(result.theirs),
            "figures": figures,
            "min": min(figures),
            "median": result.median,
            "max": max(figures),
            "met": None if self.quick else result.met,
            "note": result.note,
        }

    def table(self) -> str:
        """Returns aligned columns for a terminal."""
        rows: list[tuple[str, ...]] = [("", *COLUMNS)]
        rows += [(f"{topic.name}.{result.race.name}", *self._cells(result)) for topic, result in self.results]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, "", *self._absences(), self.verdict]).replace("`", "")

    def page(self) -> str:
        """Returns docs/benchmarks.md."""
        parts = [
            "# Benchmarks",
            made_by(MODULE, (*PACKAGES, *PEERS)),
            filled(self._header()),
            filled(READING),
        ]
        for topic, outcomes in self.outcomes:
            results = [each for each in outcomes if isinstance(each, Result)]
            if results:
                parts += [f"## {topic.title}", filled(topic.about), "\n".join(self._rows(results))]
                parts += ["\n".join(f"- {_what(each)}: {note}" for each in results for note in _notes(each))]
        parts += ["## What is not here", *self._absences(), filled(ELSEWHERE)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _header(self) -> str:
        cores = facts()["cores"]
        busy = "**The machine was busy**: " if self.load > 0.5 else ""
        return (
            f"{busy}{self.load:.1f} processes wanted its {cores} cores in the minute before. Rounds of a race: "
            f"{self.rounds}, more of what is short; it took {self.seconds / 60:.0f} minutes. {self.verdict}"
        )

    def _rows(self, results: Sequence[Result]) -> Iterator[str]:
        yield f"| {' | '.join(COLUMNS)} |"
        yield "|---|---|---:|---:|---:|---:|---|"
        for result in results:
            *cells, verdict = self._cells(result)
            yield f"| {' | '.join(cells)} | {verdict.replace('missed', '**missed**')} |"

    def _cells(self, result: Result) -> tuple[str, ...]:
        race, figures = result.race, result.figures
        unit = "" if result.theirs else f" {race.unit}"
        spread = " / ".join(figure(value) for value in (min(figures), result.median, max(figures)))
        sign = "x" if result.theirs else race.unit
        wanted = f"{race.wanted.sense} {race.wanted.bound:g} {sign}" if race.wanted else ""
        verdict = f"{'met' if result.met else 'missed'}, {result.rounds_met} of {len(figures)}" if race.wanted else ""
        ours, peer = (f"{figure(statistics.median(costs))} {race.unit}" if costs else "" for costs in
                      (result.ours, result.theirs))  # fmt: skip
        return race.about, race.peer, ours, peer, spread + unit, wanted, "not judged" if self.quick else verdict

    def _absences(self) -> list[str]:
        whys = dict.fromkeys((topic.name, each.why, each.failed) for topic, each in self.absent)
        return [f"{name}: {'failed' if failed else 'left out'}: {why}" for name, why, failed in whys]


def _what(result: Result) -> str:
    race = result.race
    return f"{race.about} beside {race.peer}" if race.peer else race.about


def _notes(result: Result) -> list[str]:
    why = " ".join(result.race.hindrance.split())  # an item of a list is one line
    missed = f"missed. {why}" if result.met is False and why else ""
    return [note for note in (result.note, missed) if note]


def figure(value: float) -> str:
    """Formats a number with its significant digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
