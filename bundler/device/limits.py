"""Defines deadlines: how long each kind of wait may take, and a limit for a whole command."""

import threading
import time
from dataclasses import dataclass

from bundler.errors import TimeUp


@dataclass(frozen=True)
class Patience:
    """Seconds to wait: for an answer of adb, for a short command, during a stalled transfer, for a lost phone."""

    answer_s: float = 20.0
    command_s: float = 60.0
    stall_s: float = 30.0
    return_s: float = 60.0


class Halted(Exception):
    """All waits must end: the command was interrupted."""


class Limit:
    """A deadline for a whole command. `halt` ends all its waits, from any thread."""

    def __init__(self, timeout_s: float = float("inf")) -> None:
        self.timeout_s = timeout_s
        self.halt = threading.Event()
        self._deadline = time.monotonic() + timeout_s

    @property
    def left_s(self) -> float:
        return self._deadline - time.monotonic()

    def check(self, doing: str) -> None:
        """Raises: Halted; TimeUp: the deadline has passed."""
        if self.halt.is_set():
            raise Halted
        if self.left_s <= 0:
            raise TimeUp(doing, self.timeout_s)

    def pause(self, seconds: float, doing: str) -> None:
        """Waits for `seconds`, or until the deadline.

        Raises:
            Halted, TimeUp
        """
        self.halt.wait(max(0.0, min(seconds, self.left_s)))
        self.check(doing)
