"""What a virtual phone remembers from its start to its stop, seen and changed by all its processes at once."""

import fcntl
import os
import shutil
import signal
from pathlib import Path

CUT, RESTART = signal.SIGUSR1, signal.SIGUSR2


class Life:
    """Counters, and marks of what happened already, as files in `folder`; and the way to tell the daemon."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder.resolve()
        self._daemon = os.getpid()

    def once(self, what: str) -> bool:
        """Whether this is the first time that somebody asks."""
        try:
            os.close(os.open(self._folder / what, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    def count(self, what: str) -> int:
        """How often this was asked before."""
        with (self._folder / f"{what}.count").open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = file.seek(0, os.SEEK_END)
            file.write(b".")
        return before

    def tell(self, request: signal.Signals) -> None:
        """Asks the daemon to CUT all connections or to RESTART the phone."""
        os.kill(self._daemon, request)
