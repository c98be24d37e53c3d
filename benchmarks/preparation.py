"""How fast questions become raw inputs and logits become answers, and in how much memory; writes docs/preparation.md.

    python -m benchmarks.preparation                        XQuAD's 1,190 questions, 10,000 windows, 100,000 questions
    python -m benchmarks.preparation --rounds 3 --many 20000 --out /tmp/table.md

    TMPDIR=/dev/shm python -m benchmarks.preparation        files in memory, where others are busy on the disk

All sides of a race take turns in each round, so that whatever else the machine does hits them alike. Memory is the most
that a process of its own had resident, which runs all of `build` on a DLC that is there already.
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import tempfile
import textwrap
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tokenizers

from benchmarks import preparing
from benchmarks.loads import quiet
from benchmarks.machine import WIDTH, made_by
from bundler import layout
from bundler.build import BuildRequest, build_bundle
from bundler.model.make import Recipe
from bundler.qa.features import load_tokenizer
from bundler.qa.questions import open_questions, read_squad
from bundler.resources import DEMO_MODEL, DEMO_QUESTIONS, DEMO_TOKENIZER
from bundler.soc import DEFAULT, known_socs

WINDOWS, MANY = 10_000, 100_000
LOOPED = 20  # the loop decodes one window of so many: all would take minutes
ABOUT = """\
Ours reads the file, checks the questions, cuts them into windows of 384 tokens that overlap by 128, and writes raw
inputs, checksums, offsets and lines about them. The seed's loop (`benchmarks/preparing.py`) is written anew from its
steps: each question tokenized by itself and cut to one window, three files each. The loop over spans tries every start
with every end of at most 30 tokens; it decodes one window of 20, and its speed is taken for all. Figures are questions
or windows a second, least / median / most of the rounds, in which
the sides take turns; by processor is how many times as many processor seconds the peer takes. Files lie in
{folder}; {load:.1f} processes wanted a core as it began."""
CHIP = known_socs()[DEFAULT]


@dataclass(frozen=True)
class Race:
    """Items a second of two sides, round by round, and how many times as fast ours is to be at least; `cpu` is how
    many times as many processor seconds the peer takes an item."""

    about: str
    ours: Sequence[float]
    peer: Sequence[float]
    least: float
    cpu: float

    @property
    def row(self) -> str:
        ratios = [one / other for one, other in zip(self.ours, self.peer, strict=True)]
        held = "holds" if statistics.median(ratios) >= self.least else "**missed**"
        rounds = f"{sum(ratio >= self.least for ratio in ratios)} of {len(ratios)}"
        return (
            f"| {self.about} | {_spread(self.ours, ',.0f')} | {_spread(self.peer, ',.0f')} | {_spread(ratios, '.2f')} "
            f"| {self.cpu:.2f} | {self.least:g} | {held}, {rounds} rounds |"
        )


@dataclass(frozen=True)
class Build:
    """One whole build of so many questions."""

    questions: int
    windows: int
    seconds: float
    peak_bytes: int


def _spread(values: Sequence[float], form: str) -> str:
    return " / ".join(f"{value:{form}}" for value in (min(values), statistics.median(values), max(values)))


class Clock:
    """Times work by its name: items a second of each round, and processor seconds an item of all."""

    def __init__(self) -> None:
        self.speeds: defaultdict[str, list[float]] = defaultdict(list)
        self._cpu: defaultdict[str, list[float]] = defaultdict(list)

    def time(self, name: str, items: int, work: Callable[[], object]) -> None:
        begun, cpu = time.perf_counter(), time.process_time()
        work()
        self._cpu[name].append((time.process_time() - cpu) / items)
        self.speeds[name].append(items / (time.perf_counter() - begun))

    def race(self, about: str, ours: str, peer: str, least: float) -> Race:
        cpu = statistics.median(self._cpu[peer]) / statistics.median(self._cpu[ours])
        return Race(about, self.speeds[ours], self.speeds[peer], least, cpu)


def race_preparation(rounds: int, folder: Path) -> list[Race]:
    questions, vocabulary = preparing.questions(folder)
    pairs, tokenizer = preparing.pairs_of(questions), preparing.bare_tokenizer(vocabulary)
    clock = Clock()
    for number in range(-1, rounds):
        if not number:
            clock = Clock()  # what came before warmed files and programs up
        for name, way in (("ours", preparing.ours), ("seed", preparing.seeds_way)):
            place, own = folder / name, load_tokenizer(vocabulary)
            place.mkdir()
            clock.time(name, len(pairs), partial(way, questions, own, place))
            shutil.rmtree(place)
        clock.time("bare", len(pairs), partial(tokenizer.encode_batch, pairs))
    return [
        clock.race("raw inputs of 1,190 questions, beside the seed's loop", "ours", "seed", 4),
        clock.race("the same, beside `tokenizers` encoding and writing nothing", "ours", "bare", 0.7),
    ]


def race_decoding(rounds: int, folder: Path) -> list[Race]:
    races = []
    for about, windows in (
        ("20 best of 10,000 full windows, beside a loop", preparing.full_windows(WINDOWS)),
        ("20 best of 10,000 windows of XQuAD's", preparing.random_windows(*preparing.questions(folder), WINDOWS)),
    ):
        clock, some = Clock(), windows[::LOOPED]
        for _ in range(rounds):
            clock.time("ours", len(windows), partial(preparing.decode_all, windows))
            clock.time("loop", len(some), partial(preparing.decode_in_a_loop, some))
        races.append(clock.race(about, "ours", "loop", 20))
    return races


def whole_build(count: int, dlc: Path, folder: Path) -> Build:
    """Builds a bundle in a process of its own."""
    questions, vocabulary = preparing.made_up(count, folder)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        build = pool.apply(_build, (questions, vocabulary, dlc, folder / "bundle"))
    shutil.rmtree(folder / "bundle")
    return build


def _build(questions: Path, vocabulary: Path, dlc: Path, out: Path) -> Build:
    begun = time.perf_counter()
    bundle = build_bundle(BuildRequest(open_questions(questions), dlc, vocabulary, CHIP), out, quiet)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Build(len(bundle.questions), len(bundle.manifest.windows), seconds, peak)


def small_dlc(folder: Path) -> Path:
    request = BuildRequest(
        read_squad(DEMO_QUESTIONS, 1), DEMO_MODEL, DEMO_TOKENIZER, CHIP, recipe=Recipe("fp16", converter="built-in")
    )
    return build_bundle(request, folder / "demo", quiet).path / layout.DEVICE / layout.MODEL


def page(races: Sequence[Race], builds: Sequence[Build], source: str, load: float) -> str:
    """docs/preparation.md."""
    decoding = next(race for race in races if "full windows" in race.about)
    seconds = [WINDOWS / speed for speed in decoding.ours]
    about = ABOUT.format(folder=tempfile.gettempdir(), load=load)
    packages = f"{made_by('benchmarks.preparation')[:-1]}, tokenizers {tokenizers.__version__}."
    lines = [
        "# Questions into inputs, logits into answers: measured",
        "",
        textwrap.fill(packages, WIDTH, break_long_words=False, break_on_hyphens=False),
        "",
        textwrap.fill(f"{source} {about}", WIDTH, break_on_hyphens=False),
        "",
        "| | ours | peer | times as fast | by processor | wanted | |",
        "|---|---:|---:|---:|---:|---:|---|",
        *(race.row for race in races),
        "",
        f"10,000 full windows take {_spread(seconds, '.2f')} s to decode; 3 s at most are allowed.",
        "",
        "## Memory",
        "",
        "All of `build` on a DLC, made-up questions in JSON lines, five a passage; the bundle's verification included.",
        "",
        "| questions | windows | seconds | most memory |",
        "|---:|---:|---:|---:|",
        *(f"| {b.questions:,} | {b.windows:,} | {b.seconds:.1f} | {b.peak_bytes / 1e6:,.0f} MB |" for b in builds),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--many", type=int, default=MANY)
    parser.add_argument("--out", type=Path, default=Path("docs/preparation.md"))
    options, load = parser.parse_args(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="mbqa-preparation-") as name:
        folder = Path(name)
        races = race_preparation(options.rounds, folder) + race_decoding(options.rounds, folder)
        dlc = small_dlc(folder)
        builds = [whole_build(count, dlc, folder) for count in (options.many // 50, options.many // 10, options.many)]
    source = "The questions are XQuAD's English ones." if preparing.xquad_is_here() else "The questions are made up."
    made = page(races, builds, source, load)
    options.out.write_text(made, encoding="utf-8")
    sys.stdout.write(made)


if __name__ == "__main__":
    main()
