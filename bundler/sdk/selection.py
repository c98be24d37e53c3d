"""Selects the needed files of the SDK, and the ranges of the archive to request. Works on names and numbers only."""

import itertools
import re
from collections.abc import Collection, Iterable
from typing import Literal

from bundler.model.sdk import HOST

Purpose = Literal["run", "convert", "all"]
PURPOSES: tuple[Purpose, ...] = ("run", "convert", "all")

RUN = re.compile(
    r"[^/]*(?:licen[cs]e|notice)[^/]*|sdk\.yaml"
    r"|bin/aarch64-android[^/]*/(?:snpe|qnn)-(?:net-run|platform-validator)"
    r"|lib/aarch64-android[^/]*/lib(?:SNPE|SnpeHtpPrepare|c\+\+_shared|PlatformValidatorShared"
    r"|Qnn(?:Htp|HtpPrepare|System|ModelDlc|Cpu|Gpu|HtpNetRunExtensions|GpuNetRunExtensions)"
    r"|(?:Snpe|Qnn)(?:Htp|Dsp)V\d+\w*Stub)\.so"
    r"|lib/(?:hexagon-v\d+/unsigned|dsp)/lib(?:Snpe|Qnn)(?:Htp|Dsp)V\d+\w*Skel\.so",
    re.IGNORECASE,
)
"""What a phone needs, for either engine, with licence and notices."""
CONVERT = re.compile(rf"bin/[^/]+|(?:bin|lib)/{HOST}/.+|lib/python/.+")
"""What the converters need in addition: programs, their libraries and their Python packages."""
HEXAGON = re.compile(r"(?:^lib/hexagon-v|/lib(?:Snpe|Qnn)(?:Htp|Dsp)V)(\d+)")

REQUESTS = 18  # ranges at most, unless that wastes too much; a few more requests find the directory
ALWAYS_BYTES = 1 << 17  # a gap of this size costs less than a request
NEVER_BYTES = 1 << 22  # wider gaps are never included


def is_wanted(path: str, purpose: Purpose, hexagons: Collection[int] | None) -> bool:
    """Returns whether a file, by its path below the SDK's root, is needed; hexagons: for these chips' DSPs only."""
    found = HEXAGON.search(path)
    if found and hexagons is not None and int(found[1]) not in hexagons:
        return False
    return purpose == "all" or bool(RUN.fullmatch(path)) or (purpose == "convert" and bool(CONVERT.fullmatch(path)))


def joined(pieces: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Joins pieces [start, end) of the archive into few ranges: neighbours, and the nearest ones up to a limit."""
    ranges = sorted(pieces)
    gaps = sorted(after[0] - before[1] for before, after in itertools.pairwise(ranges))
    spare = len(gaps) - (REQUESTS - 1)
    widest = min(gaps[spare - 1], NEVER_BYTES) if spare > 0 else 0
    made: list[tuple[int, int]] = []
    for start, end in ranges:
        if made and start - made[-1][1] <= max(widest, ALWAYS_BYTES):
            made[-1] = (made[-1][0], max(end, made[-1][1]))
        else:
            made.append((start, end))
    return made
