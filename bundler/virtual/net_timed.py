"""A run that takes a fixed time per inference and computes nothing, for tests of load and of several phones.

The outputs are derived from the inputs' bytes, the same in every run, and are not the model's answers. It needs almost
no computing: it loads neither the DLC nor any library. Each output has as many float32 values as the longest input
file, which is right for models that give logits for each token.
"""

import hashlib
import time
from array import array
from collections.abc import Sequence
from pathlib import Path

from bundler.types import OUTPUTS
from bundler.virtual.net_files import NetRunError

VALUE_BYTES = 4
STEP, OFFSET = 1 / 16, 8.0


class TimedSession:
    """A stand-in for a network's session."""

    def __init__(self, outputs: Sequence[str], time_s: float) -> None:
        self._outputs, self._time_s = outputs or OUTPUTS, time_s
        self._due = time.monotonic()

    def infer(self, entries: Sequence[tuple[str, str]], result: str) -> list[Path]:
        """Writes the outputs when they are due; returns their files."""
        contents = [self._read(path) for _, path in entries]
        seed = hashlib.sha256(b"".join(contents)).digest()
        count = max(map(len, contents), default=0) // VALUE_BYTES
        self._due = max(self._due + self._time_s, time.monotonic())
        time.sleep(max(0.0, self._due - time.monotonic()))
        files = []
        for name in self._outputs:
            noise = hashlib.shake_128(name.encode() + seed).digest(count)
            target = Path(result, f"{name}.raw")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(array("f", (byte * STEP - OFFSET for byte in noise)).tobytes())
            files.append(target)
        return files

    def _read(self, path: str) -> bytes:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise NetRunError(f"Failed to open input file: {path}") from error
