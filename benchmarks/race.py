"""A race: ours beside a peer in alternating rounds, or against a limit; and what came of it.

Each side is a callable that returns what one turn cost: seconds, bytes. With a peer, a round's figure is a ratio of
the two: how many times as fast as the peer ours is where at least so much is wanted or nothing is, and how many times
the peer's cost ours has where at most so much is wanted. Without a peer it is the cost itself.
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
    """What an issue asks of a figure."""

    sense: Literal["at least", "at most"]
    bound: float

    def met_by(self, figure: float) -> bool:
        return figure >= self.bound if self.sense == "at least" else figure <= self.bound


def at_least(bound: float) -> Wanted:
    return Wanted("at least", bound)


def at_most(bound: float) -> Wanted:
    return Wanted("at most", bound)


def nothing() -> None:
    """Done before each turn where nothing is to be done."""


@dataclass(frozen=True)
class Sides:
    """Who takes turns; before each turn `before` is done, which costs neither; `note` says more, after the race."""

    ours: Side
    peer: Side | None = None
    before: Callable[[], object] = nothing
    note: Callable[[], str] = str


@dataclass(frozen=True)
class Race:
    """`about` is what ours does, `peer` what the other one does; `unit` is that of a turn's cost. `times`
    multiplies the rounds that are asked for: more rounds for a short race, 0 for one round where nothing varies.
    `hindrance` says what stands in the way where the target is missed."""

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
    """What each turn cost; `theirs` is empty where there is no peer."""

    race: Race
    ours: Sequence[float]
    theirs: Sequence[float] = ()
    note: str = ""

    @property
    def figures(self) -> list[float]:
        """A figure a round, in the order of the rounds."""
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
        """Whether the median round meets what is wanted; None where nothing is."""
        return self.race.wanted.met_by(self.median) if self.race.wanted else None

    @property
    def rounds_met(self) -> int:
        return sum(self.race.wanted.met_by(figure) for figure in self.figures) if self.race.wanted else 0


def run_race(race: Race, sides: Sides, rounds: int) -> Result:
    """Both sides take turns, and begin in turns."""
    costs: dict[Side, list[float]] = {side: [] for side in (sides.ours, sides.peer) if side}
    for number in range(rounds):
        for side in list(costs)[:: -1 if number % 2 else 1]:
            sides.before()
            costs[side].append(side())
    return Result(race, costs[sides.ours], costs[sides.peer] if sides.peer else (), sides.note())


def timed(work: Callable[[], object]) -> Side:
    """A side that costs the seconds that the work takes."""

    def side() -> float:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun

    return side


@dataclass
class Shared(Generic[T]):
    """A measurement that several races look at: it is made once a round, whichever race comes to it first."""

    measure: Callable[[], T]
    made: list[T] = field(default_factory=list)

    def part(self, look: Callable[[T], Any]) -> Side:
        """A side whose cost is a part of what was measured, round by round."""
        rounds = count()

        def side() -> float:
            number = next(rounds)
            while len(self.made) <= number:
                self.made.append(self.measure())
            return float(look(self.made[number]))

        return side
