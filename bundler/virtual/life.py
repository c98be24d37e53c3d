"""The state of a virtual phone from its start to its stop, shared by all its processes."""

import fcntl
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

CUT, RESTART = signal.SIGUSR1, signal.SIGUSR2


@dataclass(frozen=True)
class Life:
    """Counters, and marks of past events, as files in `folder`; `daemon` is the daemon's process id."""

    folder: Path
    daemon: int

    @classmethod
    def begin(cls, folder: Path) -> "Life":
        """Begins a new life, with this process as its daemon."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return cls(folder.resolve(), os.getpid())

    def once(self, what: str) -> bool:
        """Returns whether this is the first call with this name."""
        try:
            os.close(os.open(self.folder / what, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    def count(self, what: str) -> int:
        """Returns the number of earlier calls with this name."""
        with (self.folder / f"{what}.count").open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = file.seek(0, os.SEEK_END)
            file.write(b".")
        return before

    def tell(self, request: signal.Signals) -> None:
        """Makes the daemon CUT all connections or RESTART the phone."""
        os.kill(self.daemon, request)
