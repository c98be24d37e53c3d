"""Measures every speed that the issues name, each beside its peer in the same run.

    python -m benchmarks                     all of them, about a quarter of an hour; --write writes docs/benchmarks.md
    python -m benchmarks commands decoding   some of them
    python -m benchmarks --quick             shows that everything runs: tiny sizes, one round, nothing judged

Run it at the repository's root. A missed target is reported, but only a failed race leads to exit code 1.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmarks.board import Absent, Board, Outcome
from benchmarks.ground import Ground, NotHere
from benchmarks.race import Race, Topic, run_race

PAGE = Path("docs/benchmarks.md")


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def chosen(names: Sequence[str]) -> list[tuple[Topic, list[Race]]]:
    """Returns the races with these names, `topic` or `topic.race`; all by default."""
    from benchmarks.registry import TOPICS  # not above: the cable's process imports this module too

    wanted = [
        (topic, [race for race in topic.races if not names or {topic.name, f"{topic.name}.{race.name}"} & set(names)])
        for topic in TOPICS
    ]
    return [(topic, races) for topic, races in wanted if races]


def run_topic(topic: Topic, races: Sequence[Race], rounds: int, *, quick: bool) -> list[Outcome]:
    with (
        tempfile.TemporaryDirectory(prefix=f"mbqa-{topic.name}-") as folder,
        Ground(Path(folder), quick=quick) as ground,
    ):
        return [run_one(f"{topic.name}.{race.name}", race, ground, rounds) for race in races]


def run_one(name: str, race: Race, ground: Ground, rounds: int) -> Outcome:
    begun = time.monotonic()
    try:
        result = run_race(race, race.sides(ground), 1 if ground.quick else race.rounds(rounds))
    except NotHere as error:
        say(f"{name}: left out: {error}")
        return Absent(race, str(error))
    except Exception as error:  # the others are to run all the same
        say(f"{name}: failed\n{traceback.format_exc()}")
        return Absent(race, f"{type(error).__name__}: {error}".splitlines()[0], failed=True)
    say(f"{name}: {', '.join(f'{figure:.3g}' for figure in result.figures)} ({time.monotonic() - begun:.1f} s)")
    return result


def main() -> int:
    known = [
        name for topic, _ in chosen([]) for name in (topic.name, *(f"{topic.name}.{race.name}" for race in topic.races))
    ]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"names: {', '.join(known)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a topic, or a race as topic.race (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="only show that everything runs")
    parser.add_argument("--json", action="store_true", help="one document on stdout, all else on stderr")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE}")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no such race: {', '.join(unknown)}; there are: {', '.join(known)}")
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    if options.quick and options.write:
        parser.error("--write: a quick run has no figures worth writing down")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # phones and servers end with this
    load, begun, rounds = os.getloadavg()[0], time.monotonic(), 1 if options.quick else options.rounds
    outcomes = [(topic, run_topic(topic, races, rounds, quick=options.quick)) for topic, races in chosen(options.names)]
    board = Board(outcomes, rounds, options.quick, load, time.monotonic() - begun)
    if options.write:
        PAGE.write_text(board.page(), encoding="utf-8")
        say(f"wrote {PAGE}")
    sys.stdout.write(json.dumps(board.document(), indent=1) + "\n" if options.json else board.table() + "\n")
    return int(board.failed)


if __name__ == "__main__":
    sys.exit(main())
