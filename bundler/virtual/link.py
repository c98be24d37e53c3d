"""Simulates a faulty link between a virtual phone and its host: it breaks, changes a bit, or is slow.

Counts the data of all sessions together, from the phone's start. Independent of adb's packets.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Sequence

from bundler.virtual.faults import Faults

FLIPPED_BIT = 1
SLICE = 16 * 1024

Data = bytes | bytearray | memoryview


class LinkCut(Exception):
    """The link broke while it carried a session's data."""


class Way:
    """One direction."""

    def __init__(
        self, cuts: Sequence[int], flips: Sequence[int], bytes_per_s: int | None, delay_s: float = 0.0
    ) -> None:
        self.slow = bytes_per_s is not None
        self.delay_s = delay_s
        self._cuts, self._flips = list(cuts), list(flips)
        self._bytes_per_s = bytes_per_s or 1
        self._carried = 0
        self._free_at = 0.0

    def carry(self, data: Data) -> tuple[Data, bool]:
        """Returns what arrives of a session's data, and whether the link breaks after it."""
        start, end = self._carried, self._carried + len(data)
        broken = bool(self._cuts) and end >= self._cuts[0]
        if broken:
            end = max(self._cuts.pop(0), start)
            data = data[: end - start]
        self._carried = end
        here = bisect_left(self._flips, end)
        if here:
            changed = bytearray(data)
            for position in self._flips[:here]:
                changed[position - start] ^= FLIPPED_BIT
            del self._flips[:here]
            data = changed
        return data, broken

    async def take_time(self, size: int) -> None:
        """Waits as long as the transfer of `size` bytes takes, after earlier ones."""
        if self.slow:
            now = asyncio.get_running_loop().time()
            self._free_at = max(self._free_at, now) + size / self._bytes_per_s
            await asyncio.sleep(self._free_at - now)

    async def lag(self, sent_at: float) -> None:
        """Waits until data arrives that was sent at this time of the loop's clock."""
        if self.delay_s:
            await asyncio.sleep(sent_at + self.delay_s - asyncio.get_running_loop().time())


class Link:
    """Both directions, as seen from the phone; `cut` breaks the link."""

    def __init__(self, faults: Faults, cut: Callable[[], None]) -> None:
        rate = faults.number("slow")
        delay_s = max(
            (float(fault.values[1]) / 1000 for fault in faults.of("slow") if len(fault.values) > 1), default=0.0
        )
        self.inward = Way(faults.numbers("cut-in"), faults.numbers("flip-in"), rate, delay_s)
        self.outward = Way(faults.numbers("cut-out"), faults.numbers("flip-out"), rate, delay_s)
        self.cut = cut
