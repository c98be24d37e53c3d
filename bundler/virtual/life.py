"""What a virtual phone remembers from its start to its stop, seen and changed by all its processes at once."""

import fcntl
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

CUT, RESTART = signal.SIGUSR1, signal.SIGUSR2


@dataclass(frozen=True)
class Life:
    """Counters, and marks of what happened already, as files in `folder`; `daemon` is the daemon's process id."""

    folder: Path
    daemon: int

    @classmethod
    def begin(cls, folder: Path) -> "Life":
        """A new life, whose daemon is this process."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return cls(folder.resolve(), os.getpid())

    def once(self, what: str) -> bool:
        """Whether this is the first call with this name."""
        try:
            os.close(os.open(self.folder / what, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    def count(self, what: str) -> int:
        """How many calls with this name there were before."""
        with (self.folder / f"{what}.count").open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = file.seek(0, os.SEEK_END)
            file.write(b".")
        return before

    def tell(self, request: signal.Signals) -> None:
        """Makes the daemon CUT all connections or RESTART the phone."""
        os.kill(self.daemon, request)
