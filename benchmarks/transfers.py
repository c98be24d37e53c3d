"""How fast files get to a phone and back, beside adb's own transfers in the same run; writes docs/transfers.md.

    python -m benchmarks.transfers             a virtual phone, and one of genuine parts where that can be had
    python -m benchmarks.transfers --phone virtual --rounds 7 --out /tmp/table.md

Both sides of a race take turns, and begin in turns. Between the two lies loopback, or a cable of 4 ms one-way delay and
20 MB/s (link.py). Nothing computes: a stand-in for snpe-net-run unpacks
outputs that were made beforehand.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.deploys import Large, Second, large_deploy, second_deploys
from benchmarks.link import COUNTING, SLOW, laid
from benchmarks.loads import QUESTIONS, bundle_of, plain_inputs, quiet, random_file, with_stand_in, xquad_is_here
from benchmarks.machine import made_by
from benchmarks.races import CHUNK, Race, Track
from bundler import layout
from bundler.bundle import Bundle
from bundler.deploy import DeployRequest, deploy_bundle
from bundler.device.blobs import Blob
from bundler.device.phone import Phone
from tests.phones import genuine_phone, virtual_phone, why_no_genuine_phone

MANY, SMALL_CHUNK = 10_000, 100
MODEL_BYTES = 100_000_000
PULLED_OVER_SLOW_LINK = 100  # windows: adb takes a minute for all of them
PUSHED_BY_ADBUTILS = 40  # files: it takes minutes for all of them
LARGEST_SHARE, SECOND_S = 0.02, 2.0
MOST_MEMORY = 300e6
TMPFS = "1g"
KILOBYTE, MEGABYTE = 1e3, 1e6
WAYS = {"loopback": None, "4 ms, 20 MB/s": SLOW}

SECOND_ABOUT = """\
Wanted: at most 2 % of the first deploy's bytes, and 2 s. The time is that of the command `mbqa-bundle deploy` from its
start to its end, without the seconds (of the phone's clock) in which snpe-net-run ran. Bytes are those on adb's
connection, the stand-in's own not counted. From the phone come the outputs of the new run, as after the first."""
LARGE_ABOUT = """\
Wanted: at most 300 MB, and storage bounded by `--chunk`. Memory is the most that the command's process had resident.
*inputs* are the compressed archives of all chunks, in the store; *all else* is the most that was seen of unpacked
inputs, raw outputs, and archives of outputs that were not collected yet."""


@dataclass
class Found:
    """All figures."""

    questions: str
    races: list[Race] = field(default_factory=list)
    seconds: dict[str, list[Second]] = field(default_factory=dict)
    large: dict[str, list[Large]] = field(default_factory=dict)
    loads: list[float] = field(default_factory=list)


def measure(kinds: Sequence[str], rounds: int, folder: Path, say: Callable[[object], None]) -> Found:
    """Everything, phone by phone."""
    found = Found("XQuAD's English ones" if xquad_is_here() else "made up")
    bundle = with_stand_in(bundle_of(QUESTIONS, _made(folder / "usual")), CHUNK)
    plain = plain_inputs(bundle, folder / "plain")
    model = Blob.of(random_file(folder / "model", MODEL_BYTES))
    many = with_stand_in(bundle_of(MANY, _made(folder / "many")), CHUNK)
    many = with_stand_in(many, SMALL_CHUNK)
    if "genuine" in kinds:
        with genuine_phone() as phone:
            found.races += _inputs(Track(phone, "genuine, on disk", "loopback", bundle, rounds), 1.5, plain)
    for kind in kinds:
        with _phone(kind, _made(folder / kind)) as phone:
            for race in _races(kind, phone, bundle, plain, model, rounds):
                say(race.row)
                found.races.append(race)
                found.loads.append(os.getloadavg()[0])
            with laid(COUNTING, phone.serial) as cable:
                far = phone.server.find(cable.serial)
                far.run(["rm", "-rf", "/data/local/tmp/mbqa"], doing="preparing", timeout_s=60)
                found.seconds[kind] = second_deploys(far, cable, bundle, rounds)
                say(found.seconds[kind])
            found.large[kind] = []
            for chunk in (SMALL_CHUNK, CHUNK):
                phone.run(["rm", "-rf", "/data/local/tmp/mbqa"], doing="preparing", timeout_s=60)
                found.large[kind].append(large_deploy(phone, many, chunk))
                say(found.large[kind][-1])
    return found


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@contextmanager
def _phone(kind: str, folder: Path) -> Iterator[Phone]:
    with genuine_phone(SIZE=TMPFS) if kind == "genuine" else virtual_phone(folder) as phone:
        yield phone


def _races(kind: str, phone: Phone, bundle: Bundle, plain: Path, model: Blob, rounds: int) -> Iterator[Race]:
    request = DeployRequest("cpu", [phone.serial], chunk=CHUNK, detach=True, restart=True)
    for way, cable in WAYS.items():
        with ExitStack() as open_:
            serial = open_.enter_context(laid(cable, phone.serial)).serial if cable else phone.serial
            track = Track(phone.server.find(serial), kind, way, bundle, rounds)
            yield from _inputs(track, 3.0 if cable else 1.5, plain)
            if not cable:
                yield track.model(0.8, model)
                yield track.adbutils_inputs(300.0, plain, PUSHED_BY_ADBUTILS)
            deploy_bundle(bundle.path, phone.server, request, quiet)
            yield track.outputs(20.0, PULLED_OVER_SLOW_LINK if cable else None)


def _inputs(track: Track, limit: float, plain: Path) -> Iterator[Race]:
    yield track.inputs(limit, plain, "inputs: `adb push`, three files a window")
    own = track.bundle.path / layout.DEVICE / layout.INPUTS
    yield track.inputs(limit, own, "inputs: `adb push`, the bundle's fewer files")


def page(found: Found, rounds: int) -> str:
    """docs/transfers.md."""
    about = f"""\
{QUESTIONS:,} questions ({found.questions}) in windows of 384 tokens, {rounds} alternating rounds of each race. Times
are medians; a ratio is how many times as fast as the peer ours is in the same round. *genuine*: AOSP's adbd, mksh and
toybox in a network namespace, its storage a tmpfs unless disk is told; *virtual*: the virtual phone, in
Python. Both share this machine's cores with adb and with us. A row holds its limit where the median ratio does.
{_others(found.loads)}
Ours is everything between a checked bundle and a phone that has it: the archives made, checked on the phone, linked.
A bundle writes inputs that are alike once ("fewer files"); other tools write three files for each window."""
    parts = [
        "# To the phone and back",
        made_by("benchmarks.transfers"),
        about,
        "## Beside adb",
        "\n".join(
            [
                "| what: its peer | phone | way | ours | peer | ratio: least / median / most | wanted | |",
                "|---|---|---|---:|---:|---:|---:|---|",
                *(race.row for race in found.races),
            ]
        ),
        "What ours is made of (medians):",
        "\n".join(race.parts for race in found.races if race.parts),
        f"## A second deploy of the unchanged bundle\n\n{_second(found)}",
        f"## {MANY:,} questions\n\n{_large(found)}",
    ]
    return "\n\n".join(parts) + "\n"


def _others(loads: Sequence[float]) -> str:
    usual, cores = statistics.median(loads), len(os.sched_getaffinity(0))
    return f"**The machine was shared**: {usual:.0f} processes wanted its {cores} cores, which costs both sides.\n" * (
        usual > cores
    )


def _second(found: Found) -> str:
    rows = [
        "| phone | to the phone: first | second | share | from the phone | besides the run: least / median / most | |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for kind, taken in found.seconds.items():
        took = sorted(each.seconds for each in taken)
        share = max(each.share for each in taken)
        verdict = "holds" if share <= LARGEST_SHARE and statistics.median(took) <= SECOND_S else "**missed**"
        first, second, back = taken[0].first_to_phone, taken[-1].to_phone, taken[-1].from_phone
        times = " / ".join(f"{value:.2f}" for value in (took[0], statistics.median(took), took[-1]))
        sent = f"{first / MEGABYTE:.2f} MB | {second / KILOBYTE:.1f} KB | {share:.2%} | {back / MEGABYTE:.2f} MB"
        rows.append(f"| {kind} | {sent} | {times} s | {verdict} |")
    return "\n".join((*rows, "", SECOND_ABOUT))


def _large(found: Found) -> str:
    rows = [
        "| phone | --chunk | memory: deploy | fetch-answers | | on the phone: inputs | all else | seconds |",
        "|---|---:|---:|---:|---|---:|---:|---:|",
    ]
    for kind, taken in found.large.items():
        for each in taken:
            held = max(each.deploy_bytes, each.fetch_bytes) <= MOST_MEMORY
            memory = " | ".join(f"{size / MEGABYTE:.0f} MB" for size in (each.deploy_bytes, each.fetch_bytes))
            disk = " | ".join(f"{size / MEGABYTE:.1f} MB" for size in (each.inputs_bytes, each.beside_store_bytes))
            verdict = "holds" if held else "**missed**"
            rows.append(f"| {kind} | {each.chunk} | {memory} | {verdict} | {disk} | {each.seconds:.0f} |")
    return "\n".join((*rows, "", LARGE_ABOUT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phone", choices=("virtual", "genuine", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("docs/transfers.md"))
    options = parser.parse_args()
    kinds = ["genuine", "virtual"] if options.phone == "both" else [options.phone]
    if "genuine" in kinds and (why := why_no_genuine_phone()):
        sys.stderr.write(f"without the genuine phone: {why}\n")
        kinds.remove("genuine")

    def say(line: object) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="mbqa-transfers-") as name:
        made = page(measure(kinds, options.rounds, Path(name), say), options.rounds)
    options.out.write_text(made, encoding="utf-8")
    say(made)


if __name__ == "__main__":
    main()
