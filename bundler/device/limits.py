"""What ends waiting: patience for each kind of wait, and a limit of everything together."""

import threading
import time
from dataclasses import dataclass

from bundler.errors import TimeUp


@dataclass(frozen=True)
class Patience:
    """How long to wait: for adb to answer, for a command that has little to do, for data that stopped to flow, and for
    a lost phone to come back."""

    answer_s: float = 20.0
    command_s: float = 60.0
    stall_s: float = 30.0
    return_s: float = 60.0


class Halted(Exception):
    """Somebody wishes all waiting to end."""


class Limit:
    """A time for everything together, and a wish to end that may come from another thread."""

    def __init__(self, timeout_s: float = float("inf")) -> None:
        self.timeout_s = timeout_s
        self.halt = threading.Event()
        self._deadline = time.monotonic() + timeout_s

    @property
    def left_s(self) -> float:
        return self._deadline - time.monotonic()

    def check(self, doing: str) -> None:
        """Raises: Halted, TimeUp where it is time."""
        if self.halt.is_set():
            raise Halted
        if self.left_s <= 0:
            raise TimeUp(doing, self.timeout_s)

    def pause(self, seconds: float, doing: str) -> None:
        """Waits so long.

        Raises:
            Halted, TimeUp
        """
        self.halt.wait(max(0.0, min(seconds, self.left_s)))
        self.check(doing)
