"""Runs `mbqa-bundle` in a separate process; returns its document, its duration and its peak memory."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT_S = 3600.0
PEAK = re.compile(r"VmHWM:\s+(\d+) kB")
START = """\
import sys
from pathlib import Path
from bundler.cli import main
code = main(sys.argv[2:])
Path(sys.argv[1]).write_text(Path("/proc/self/status").read_text())
sys.exit(code)
"""


@dataclass(frozen=True)
class Ran:
    """A successful command: `document` is its output, `peak_bytes` its resident memory."""

    document: Any
    seconds: float
    peak_bytes: int


def command(*arguments: str, adb_port: int | None = None) -> Ran:
    """Runs `mbqa-bundle ARGUMENTS --json`.

    Raises:
        RuntimeError: it fails; with its output
    """
    environment = dict(os.environ)
    if adb_port is not None:
        environment["ANDROID_ADB_SERVER_PORT"] = str(adb_port)
    with tempfile.TemporaryDirectory(prefix="mbqa-load-") as folder:
        status = Path(folder) / "status"
        argv = [sys.executable, "-c", START, str(status), *arguments, "--json"]
        begun = time.perf_counter()
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        seconds = time.perf_counter() - begun
        if done.returncode:
            raise RuntimeError(f"mbqa-bundle {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
        found = PEAK.search(status.read_text())
    assert found is not None
    return Ran(json.loads(done.stdout), seconds, 1024 * int(found[1]))
