"""Simulates the faults of the engines on the virtual phone, at the inferences that they name."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from bundler.virtual.faults import Fault, Faults
from bundler.virtual.life import CUT, RESTART, Life
from bundler.virtual.net_files import NetRunError
from bundler.virtual.processes import kill_session

DEATH_S = 30.0
NAN = b"\0\0\xc0\x7f"


class RunFaults:
    """Applies faults to the inferences of a run; `failure` is the engine's error line."""

    def __init__(self, faults: Faults, life: Life, failure: str) -> None:
        self._faults, self._life, self._failure = faults, life, failure
        self._number = 0
        self.time_s = None if (ms := faults.number("run-time")) is None else ms / 1000

    def begin(self) -> None:
        """Must be called when an inference begins; may never return.

        Raises:
            NetRunError: the run fails here.
        """
        self._number = self._life.count("inference")
        if self._due("cut-run"):
            self._life.tell(CUT)
        if self._due("restart"):
            self._life.tell(RESTART)
            time.sleep(DEATH_S)
        if self._due("kill-run"):
            kill_session()
        if self._due("run-crash"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._due("run-fail"):
            raise NetRunError(self._failure)

    def finish(self, outputs: Sequence[Path]) -> None:
        """Must be called when the inference's output files are written."""
        if self._due("run-short"):
            os.truncate(outputs[0], outputs[0].stat().st_size // 2)
        if self._due("run-nan"):
            with outputs[0].open("r+b") as file:
                file.write(NAN)

    def _due(self, name: str) -> bool:
        return any(self._happens(fault) for fault in self._faults.of(name))

    def _happens(self, fault: Fault) -> bool:
        if fault.always:
            return self._number >= (fault.number or 0)
        return self._number == fault.number and self._life.once(str(fault))
