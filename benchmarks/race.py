"""Runs races: ours against a peer in alternating rounds, or against a limit; and records the results.

Each side is a callable that returns the cost of one turn: seconds or bytes. With a peer, a round's figure is a ratio:
our speed over the peer's if a minimum or nothing is required, and our cost over the peer's if a maximum is required.
Without a peer it is the cost itself.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, Literal, TypeVar

from benchmarks.ground import Ground

T = TypeVar("T")
Side = Callable[[], float]


@dataclass(frozen=True)
class Wanted:
    """A requirement of an issue for a figure."""

    sense: Literal["at least", "at most"]
    bound: float

    def met_by(self, figure: float) -> bool:
        return figure >= self.bound if self.sense == "at least" else figure <= self.bound


def at_least(bound: float) -> Wanted:
    return Wanted("at least", bound)


def at_most(bound: float) -> Wanted:
    return Wanted("at most", bound)


def nothing() -> None:
    """Does nothing before a turn."""


@dataclass(frozen=True)
class Sides:
    """The two sides; `before` is done before each turn, and costs neither; `note` adds text after the race."""

    ours: Side
    peer: Side | None = None
    before: Callable[[], object] = nothing
    note: Callable[[], str] = str


@dataclass(frozen=True)
class Race:
    """`about` describes our side, `peer` the other one; `unit` is that of a turn's cost. `times` multiplies the
    requested rounds: more rounds for a short race, 0 for one round if nothing varies. `hindrance` explains a missed
    target."""

    name: str
    about: str
    wanted: Wanted | None
    sides: Callable[[Ground], Sides]
    peer: str = ""
    unit: str = "s"
    times: int = 1
    hindrance: str = ""

    def rounds(self, asked: int) -> int:
        return max(1, asked * self.times)


@dataclass(frozen=True)
class Topic:
    """Races that share a ground, and a heading of the page."""

    name: str
    title: str
    about: str
    races: Sequence[Race]


@dataclass(frozen=True)
class Result:
    """The cost of each turn; `theirs` is empty if there is no peer."""

    race: Race
    ours: Sequence[float]
    theirs: Sequence[float] = ()
    note: str = ""

    @property
    def figures(self) -> list[float]:
        """Returns a figure for each round, in order."""
        if not self.theirs:
            return list(self.ours)
        pairs = zip(self.ours, self.theirs, strict=True)
        if self.race.wanted and self.race.wanted.sense == "at most":
            return [ours / peer for ours, peer in pairs]
        return [peer / ours for ours, peer in pairs]

    @property
    def median(self) -> float:
        return statistics.median(self.figures)

    @property
    def met(self) -> bool | None:
        """Returns whether the median round meets the requirement; None if there is none."""
        return self.race.wanted.met_by(self.median) if self.race.wanted else None

    @property
    def rounds_met(self) -> int:
        return sum(self.race.wanted.met_by(figure) for figure in self.figures) if self.race.wanted else 0


def run_race(race: Race, sides: Sides, rounds: int) -> Result:
    """Runs both sides in turns; they also take turns at beginning."""
    costs: dict[Side, list[float]] = {side: [] for side in (sides.ours, sides.peer) if side}
    for number in range(rounds):
        for side in list(costs)[:: -1 if number % 2 else 1]:
            sides.before()
            costs[side].append(side())
    return Result(race, costs[sides.ours], costs[sides.peer] if sides.peer else (), sides.note())


def timed(work: Callable[[], object]) -> Side:
    """Returns a side whose cost is the seconds of the work."""

    def side() -> float:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun

    return side


@dataclass
class Shared(Generic[T]):
    """A measurement for several races: made once in a round, by the first race that needs it."""

    measure: Callable[[], T]
    made: list[T] = field(default_factory=list)

    def part(self, look: Callable[[T], Any]) -> Side:
        """Returns a side whose cost is a part of the measurement, round by round."""
        rounds = count()

        def side() -> float:
            number = next(rounds)
            while len(self.made) <= number:
                self.made.append(self.measure())
            return float(look(self.made[number]))

        return side
