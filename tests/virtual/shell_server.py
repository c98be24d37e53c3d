"""Runs scripts in the virtual phone's shell: a small process that forks a session for each script, and its client.

The tests' own process never forks: pytest may have threads.
"""

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

DEADLINE_S = 20.0
PROPERTIES = {"ro.soc.model": "SM8650", "ro.product.cpu.abi": "arm64-v8a"}
WORK = "/data/local/tmp"


@dataclass(frozen=True)
class Result:
    """What a script did: its exit code (-1 if it had to be ended) and output, as text of single bytes."""

    status: int
    stdout: str
    stderr: str


class PhoneShell:
    """A virtual phone's shell at the host folder `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> "PhoneShell":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.close()
        self._server.stdout.close()
        try:
            self._server.wait(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()

    def run(
        self, script: str | None, stdin: str = "", *, fresh: bool = False, env: Mapping[str, str] | None = None
    ) -> Result:
        """Runs a script; `fresh` empties the phone's disk before."""
        assert self._server.stdin
        assert self._server.stdout
        request = {"script": script, "stdin": stdin, "fresh": fresh, "env": dict(env or {})}
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        self._server.stdin.flush()
        return Result(**json.loads(self._server.stdout.readline()))

    @property
    def work(self) -> Path:
        """The host's folder that is the phone's /data/local/tmp."""
        return self.root / WORK[1:]


def collect(pid: int, stdin: bytes, fds: tuple[int, int, int], deadline_s: float) -> Result:
    """Feeds a child, reads its output until both streams end, and waits for it; ends its group at the deadline."""
    to_child, outputs = fds[0], {fds[1]: b"", fds[2]: b""}
    os.set_blocking(to_child, False)
    until = time.monotonic() + deadline_s
    with selectors.DefaultSelector() as selector:
        selector.register(to_child, selectors.EVENT_WRITE)
        for fd in outputs:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < until:
            for key, _ in selector.select(max(until - time.monotonic(), 0)):
                if key.fd == to_child:
                    try:
                        stdin = stdin[os.write(to_child, stdin[:65536]) :] if stdin else b""
                    except BrokenPipeError:
                        stdin = b""
                    if stdin:
                        continue
                elif data := os.read(key.fd, 65536):
                    outputs[key.fd] += data
                    continue
                selector.unregister(key.fd)
                os.close(key.fd)
        late = bool(selector.get_map())
        for key in list(selector.get_map().values()):
            os.close(key.fd)
    if late:
        os.killpg(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    texts = [data.decode("latin-1") for data in outputs.values()]
    return Result(-1 if late else status if status >= 0 else 128 - status, *texts)


def _hello(argv: Sequence[str], _process: object) -> int:
    """A program of the phone's."""
    sys.stdout.write(" ".join(["hello", *argv[1:]]) + "\n")
    return 3


def _session(root: Path, request: dict[str, Any]) -> Result:
    """Forks, as the daemon does, and runs the script in the child."""
    from bundler.virtual import shell
    from bundler.virtual.machine import Machine
    from bundler.virtual.storage import Storage

    machine = Machine(Storage(root), PROPERTIES, {"hello": _hello})
    if not root.is_dir():
        root.mkdir(parents=True)
        machine.storage.create(shell.names(machine))
    if request["fresh"]:
        shutil.rmtree(root / WORK[1:])
        (root / WORK[1:]).mkdir()
    pipes = [os.pipe() for _ in range(3)]
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for fd, (reader, writer) in enumerate(pipes):
            os.dup2(reader if fd == 0 else writer, fd)
        os._exit(shell.run(request["script"], machine, {"TZ": "UTC", **request["env"]}))
    os.close(pipes[0][0])
    os.close(pipes[1][1])
    os.close(pipes[2][1])
    return collect(pid, request["stdin"].encode("latin-1"), (pipes[0][1], pipes[1][0], pipes[2][0]), DEADLINE_S)


def main() -> None:
    """Answers one JSON line for each on standard input."""
    root = Path(sys.argv[1])
    sys.path.insert(0, str(Path(__file__).parents[2]))
    for line in sys.stdin:
        result = _session(root, json.loads(line))
        sys.stdout.write(json.dumps(vars(result)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
