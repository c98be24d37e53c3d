"""Tests the board of races: its figures, its verdicts, and that every race runs."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from benchmarks.__main__ import chosen, run_one, run_topic
from benchmarks.board import Absent, Board, figure
from benchmarks.ground import Ground, NotHere
from benchmarks.race import Race, Result, Shared, Sides, Topic, Wanted, at_least, at_most, run_race
from benchmarks.registry import TOPICS

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 900
NUMBERS = {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}}
NUMBER = NUMBERS["items"]
TEXT = {"type": "string", "minLength": 1}


def fields(**known: Any) -> dict[str, Any]:
    return {"type": "object", "properties": known, "required": [*known], "additionalProperties": False}


RACE = fields(
    name=TEXT,
    about=TEXT,
    peer={"type": ["string", "null"]},
    unit=TEXT,
    wanted={"anyOf": [{"type": "null"}, fields(sense={"enum": ["at least", "at most"]}, bound=NUMBER)]},
    ours={**NUMBERS, "minItems": 1},
    theirs=NUMBERS,
    figures={**NUMBERS, "minItems": 1},
    min=NUMBER,
    median=NUMBER,
    max=NUMBER,
    met={"type": ["boolean", "null"]},
    note={"type": "string"},
)
DOCUMENT = fields(
    schema={"const": 1},
    command={"type": "string", "pattern": "^python -m benchmarks"},
    quick={"type": "boolean"},
    rounds={"type": "integer", "minimum": 1},
    seconds={"type": "number"},
    machine=fields(
        cores=NUMBER,
        processor=TEXT,
        memory_gb=NUMBER,
        system=TEXT,
    ),
    load_before={"type": "number"},
    versions={"type": "object", "additionalProperties": TEXT, "required": ["Python", "numpy", "typer"]},
    races={"type": "array", "items": RACE},
    left_out={"type": "array", "items": fields(name=TEXT, why=TEXT, failed={"type": "boolean"})},
)


def no_sides(_: Ground) -> Sides:
    raise NotHere("the moon is not here")


def race(wanted: Wanted | None, peer: str = "a peer") -> Race:
    return Race("name", "ours", wanted, no_sides, peer)


def board(*found: Result | Absent, quick: bool = False) -> Board:
    return Board([(Topic("topic", "Title", "About.", ()), found)], 3, quick, 0.1, 90.0)


@pytest.mark.parametrize(
    ("wanted", "theirs", "figures", "met", "rounds_met"),
    [
        (at_least(4), [8.0, 9.0, 5.0], [4.0, 9.0, 1.25], True, 2),
        (at_least(4.1), [8.0, 9.0, 5.0], [4.0, 9.0, 1.25], False, 1),
        (at_most(0.5), [8.0, 9.0, 5.0], [0.25, 1 / 9, 0.8], True, 2),
        (at_most(0.2), [8.0, 9.0, 5.0], [0.25, 1 / 9, 0.8], False, 1),
        (None, [8.0, 9.0, 5.0], [4.0, 9.0, 1.25], None, 0),
        (at_most(2), [], [2.0, 1.0, 4.0], True, 2),
        (at_most(1.9), [], [2.0, 1.0, 4.0], False, 1),
    ],
)
def test_the_median_round_meets_a_target_or_misses_it(
    wanted: Wanted | None, theirs: list[float], figures: list[float], met: bool | None, rounds_met: int
) -> None:
    """A target "at least" is a speed-up, "at most" is a ratio of costs; without a peer it is the cost itself."""
    result = Result(race(wanted), [2.0, 1.0, 4.0], theirs)
    assert result.figures == pytest.approx(figures)
    assert (result.met, result.rounds_met) == (met, rounds_met)


def test_both_sides_take_turns_and_begin_in_turns() -> None:
    said: list[str] = []

    def side(name: str, cost: float) -> Callable[[], float]:
        return lambda: said.append(name) or cost

    sides = Sides(side("ours", 2.0), side("peer", 3.0), lambda: said.append("before"), lambda: f"{len(said)} turns")
    result = run_race(race(at_least(1)), sides, 3)
    assert said[::2] == ["before"] * 6
    assert said[1::2] == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert (result.ours, result.theirs, result.note) == ([2.0] * 3, [3.0] * 3, "12 turns")


@pytest.mark.parametrize(("times", "rounds"), [(1, 5), (4, 20), (0, 1)])
def test_a_race_has_the_rounds_that_it_needs(times: int, rounds: int) -> None:
    assert replace(race(None), times=times).rounds(5) == rounds


def test_a_measurement_that_races_share_is_made_once_a_round() -> None:
    made = iter([(1, 10), (2, 20)])
    shared = Shared(lambda: next(made))
    one, other = shared.part(lambda pair: pair[0]), shared.part(lambda pair: pair[1])
    assert [one(), other(), other(), one()] == [1, 10, 20, 2]


def test_ground_makes_once_and_opens_until_the_end(tmp_path: Path) -> None:
    with Ground(tmp_path) as ground:
        assert ground.made(Ground.place, "a") == ground.made(Ground.place, "a") == tmp_path / "a"
        file = ground.opened(lambda ground: (ground.folder / "f").open("w"))
        assert not file.closed
        assert ground.size("full", "tiny") == "full"
    assert file.closed
    assert Ground(tmp_path, quick=True).size("full", "tiny") == "tiny"


def test_what_is_not_here_is_not_tried_again(tmp_path: Path) -> None:
    """A second attempt would find the folder of the first."""

    def missing(ground: Ground) -> None:
        ground.place("moon")
        raise NotHere("the moon is not here")

    with Ground(tmp_path) as ground:
        for _ in range(2):
            with pytest.raises(NotHere, match="the moon"):
                ground.made(missing)


MET = Result(race(at_least(1.5)), [1.0, 1.0, 1.0], [2.0, 3.0, 1.0], "a note")
MISSED = Result(replace(race(at_most(2), ""), name="slow", unit="GB"), [3.0, 1.0, 2.5])
FREE = Result(replace(race(None), name="free"), [0.04], [5000.0])


def test_the_page_tells_honestly() -> None:
    page = board(MET, MISSED, FREE).page()
    rows = [line for line in page.splitlines() if line.startswith("| ours")]
    assert rows == [
        "| ours | a peer | 1 s | 2 s | 1 / 2 / 3 | at least 1.5 x | met, 2 of 3 |",
        "| ours |  | 2.5 GB |  | 1 / 2.5 / 3 GB | at most 2 GB | **missed**, 1 of 3 |",
        "| ours | a peer | 0.04 s | 5,000 s | 125,000 / 125,000 / 125,000 |  |  |",
    ]
    words = " ".join(page.split())
    assert "it took 2 minutes. 1 of 2 targets are met; missed: topic.slow." in words
    assert "- ours beside a peer: a note" in page.splitlines()


def test_the_page_says_what_stands_in_the_way_where_a_target_is_missed() -> None:
    hindered = [replace(each, race=replace(each.race, hindrance="The disk.")) for each in (MET, MISSED)]
    notes = [line for line in board(*hindered).page().splitlines() if "The disk." in line]
    assert notes == ["- ours: missed. The disk."]


def test_the_table_is_aligned_and_a_quick_one_judges_nothing() -> None:
    head, first, second, *_ = board(MET, MISSED).table().splitlines()
    assert first.startswith("topic.name ")
    assert first.index("met") == second.index("missed")
    assert head.index("wanted") == first.index("at least")
    quick = board(MET, MISSED, quick=True)
    assert quick.table().count("not judged") == 2
    assert "missed" not in quick.table()
    assert [entry["met"] for entry in quick.document()["races"]] == [None, None]


def test_the_document_has_every_turn() -> None:
    document = board(MET, MISSED, Absent(race(None), "no phone")).document()
    jsonschema.validate(document, DOCUMENT)
    met, missed = document["races"]
    assert (met["name"], met["theirs"], met["median"], met["met"]) == ("topic.name", [2.0, 3.0, 1.0], 2.0, True)
    assert (missed["figures"], missed["max"], missed["met"]) == ([3.0, 1.0, 2.5], 3.0, False)
    assert document["left_out"] == [{"name": "topic.name", "why": "no phone", "failed": False}]


def test_what_is_not_here_is_left_out_and_what_fails_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Ground) -> Sides:
        raise ValueError("first line\nsecond line")

    topic = Topic("topic", "Title", "About.", [race(None), replace(race(None), sides=broken), race(None)])
    absent = run_topic(topic, topic.races, 1, quick=True)
    found = Board([(topic, absent)], 1, False, 0.1, 1.0)
    assert [(each.why, each.failed) for each in absent if isinstance(each, Absent)] == [
        ("the moon is not here", False), ("ValueError: first line", True), ("the moon is not here", False),
    ]  # fmt: skip
    assert "second line" in capsys.readouterr().err
    assert found.failed
    assert not board(absent[0]).failed
    assert found.page().count("topic: left out: the moon is not here") == 1
    assert "topic: failed: ValueError: first line" in found.page()


def test_a_quick_race_has_one_round(tmp_path: Path) -> None:
    two = replace(race(None), sides=lambda _: Sides(lambda: 1.0), times=2)
    for quick, rounds in ((True, 1), (False, 6)):
        with Ground(tmp_path, quick=quick) as ground:
            result = run_one("name", two, ground, 3)
        assert isinstance(result, Result)
        assert len(result.ours) == rounds


@pytest.mark.parametrize(
    ("value", "told"), [(0.001234, "0.00123"), (0.5, "0.5"), (123.4, "123"), (4680.34, "4,680"), (2.0, "2")]
)
def test_figures_have_three_digits(value: float, told: str) -> None:
    assert figure(value) == told


def test_races_are_chosen_by_topic_or_one_by_one() -> None:
    everything = chosen([])
    names = [f"{topic.name}.{race.name}" for topic, races in everything for race in races]
    assert len(set(names)) == len(names) == sum(len(topic.races) for topic in TOPICS)
    some = chosen(["report", "commands.help"])
    assert [(topic.name, [race.name for race in races]) for topic, races in some] == [
        ("commands", ["help"]), ("report", ["written", "opened"]),
    ]  # fmt: skip


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "no such race: nonsense; there are: commands, commands.help"),
        (["--rounds", "0"], "--rounds: at least 1"),
        (["--quick", "--write"], "--write: a quick run has no figures worth writing down"),
    ],
)
def test_usage(arguments: list[str], told: str) -> None:
    done = benchmarks(*arguments)
    assert done.returncode == 2
    assert told in done.stderr


@pytest.mark.slow
def test_every_race_runs() -> None:
    """Excludes the races of the genuine phone and the browser where there is none."""
    done = benchmarks("--quick", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, DOCUMENT)
    ran = [entry["name"] for entry in document["races"]]
    left_out = [entry["name"] for entry in document["left_out"]]
    assert sorted(ran + left_out) == sorted(f"{topic.name}.{race.name}" for topic in TOPICS for race in topic.races)
    assert all(name.startswith("genuine.") or name == "report.opened" for name in left_out)
    assert all(len(entry["ours"]) == 1 for entry in document["races"])
    assert all(bool(entry["theirs"]) == bool(entry["peer"]) for entry in document["races"])
