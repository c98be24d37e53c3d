"""A DLC's network in a process of its own, because Qualcomm's libraries print, may crash, and scale badly over cores.

`Networks` keeps one process for each thread that uses it at once. A process is `python -m bundler.dlc.child TASK`: TASK
is JSON; it writes a line of JSON, then for each inference that it reads from standard input a byte and the outputs.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from bundler.dlc.qnn import library_folder
from bundler.errors import BundlerError, DlcInvalid
from bundler.types import Runtime, TensorSpec

PREPARE_S = 900.0
WINDOW_S = 300.0
END_S = 10.0
DONE, REFUSED = b"\0", b"\1"
LONGEST_LINE = 1 << 20  # bytes

Arrays = Mapping[str, npt.NDArray[Any]]
Logits = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Task:
    """A DLC on a runtime, for `dsp` on the chip with QNN's id `soc_model`. `prepared`: what takes the place of
    compiling it; `save`: where to write what was compiled, without running it."""

    dlc: str
    runtime: Runtime
    soc_model: int = 0
    prepared: str = ""
    save: str = ""


class ChildDied(DlcInvalid):
    """The process ended without an answer."""


class Child:
    """One process for the DLC at `path`, whose tensors are `inputs` and `outputs`.

    Raises:
        DlcInvalid: the runtime refuses the DLC, or takes too long; ChildDied; NoConverter
    """

    def __init__(self, task: Task) -> None:
        if task.runtime == "dsp":
            library_folder()
        self.path, self._who = Path(task.dlc), "the HTP's simulator" if task.runtime == "dsp" else "ONNX Runtime"
        command = [sys.executable, "-P", "-m", "bundler.dlc.child", json.dumps(asdict(task))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=-1
        )
        try:
            with self._within(PREPARE_S) as output:
                line = output.readline(LONGEST_LINE)
                if not line.endswith(b"\n"):
                    raise EOFError
                told = json.loads(line)
            if "refused" in told:
                raise DlcInvalid(self.path, told["refused"])
            self.inputs, self.outputs = (
                tuple(TensorSpec(name, dtype, tuple(shape)) for name, dtype, shape in told[side])
                for side in ("inputs", "outputs")
            )
        except BaseException:
            self.close()
            raise

    def execute(self, feed: Arrays) -> Logits:
        """The outputs by name, float32, of inputs of any number type, each of its tensor's shape.

        Raises:
            DlcInvalid, ChildDied
        """
        raw = b"".join(np.ascontiguousarray(feed[spec.name], "<f4").tobytes() for spec in self.inputs)
        with self._within(WINDOW_S) as output:
            assert self._process.stdin is not None
            self._process.stdin.write(raw)
            self._process.stdin.flush()
            if _exactly(output, 1) == REFUSED:
                raise DlcInvalid(self.path, json.loads(output.readline(LONGEST_LINE)))
            return {spec.name: _read(output, spec) for spec in self.outputs}

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was left to write has no reader
                    pipe.close()

    @contextmanager
    def _within(self, limit_s: float) -> Iterator[IO[bytes]]:
        """The process's output, for as long; then the process is killed.

        Raises:
            ChildDied; DlcInvalid: time was up
        """
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(limit_s, end)
        timer.start()
        try:
            assert self._process.stdout is not None
            yield self._process.stdout
        except (EOFError, OSError) as error:
            if late.is_set():
                what = f"{self._who} does not come to an end within {limit_s:g} s"
                raise DlcInvalid(self.path, what) from error
            self._process.kill()
            code = self._process.wait(END_S)
            raise ChildDied(self.path, f"{self._who} died on it with code {code}") from error
        finally:
            timer.cancel()


class Networks:
    """A DLC that several threads run at once, each in a process that stays for the next."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._lock = threading.Lock()
        self._closed = False

    def execute(self, feed: Arrays) -> Logits:
        """As `Child.execute`; an inference on which the process dies is tried once more, in another.

        Raises:
            DlcInvalid, ChildDied, NoConverter
        """
        try:
            return self._once(feed)
        except ChildDied:
            if self._closed:
                raise
            return self._once(feed)

    def _once(self, feed: Arrays) -> Logits:
        with self._lock:
            child = self._idle.pop() if self._idle else None
        if child is None:
            child = self._begun()
        try:
            outputs = child.execute(feed)
        except BaseException:
            with self._lock:
                self._all.discard(child)
            child.close()
            raise
        with self._lock:
            if not self._closed:
                self._idle.append(child)
        return outputs

    def _begun(self) -> Child:
        """Another process. Raises: as `Child`; ChildDied: `close` was called meanwhile"""
        child = Child(self._task)
        with self._lock:
            if not self._closed:
                self._all.add(child)
                return child
        child.close()
        raise ChildDied(child.path, "its process was ended before it began")

    def close(self) -> None:
        """Ends the processes, also those at work; one that is just starting ends as soon as it has started."""
        with self._lock:
            self._closed = True
            ended, self._idle, self._all = [*self._all], [], set()
        for child in ended:
            child.close()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _exactly(output: IO[bytes], size: int) -> bytes:
    raw = output.read(size)
    if len(raw) != size:
        raise EOFError
    return raw


def _read(output: IO[bytes], spec: TensorSpec) -> npt.NDArray[np.float32]:
    raw = _exactly(output, 4 * int(np.prod(spec.shape)))
    return np.frombuffer(raw, "<f4").astype(np.float32).reshape(spec.shape)


def _serve(task: Task, requests: IO[bytes], replies: IO[bytes]) -> None:
    """Does the task; each reply goes out at once."""
    from bundler.dlc.execute import CpuNetwork, GpuNetwork, HtpNetwork, Network, save_context

    path = Path(task.dlc)
    try:
        if task.save:
            save_context(path, task.soc_model, Path(task.save))
            _line(replies, {"inputs": [], "outputs": []})
            return
        network: Network
        if task.runtime == "dsp":
            network = HtpNetwork(path, task.soc_model, Path(task.prepared) if task.prepared else None)
        else:
            network = CpuNetwork(path) if task.runtime == "cpu" else GpuNetwork(path)
    except BundlerError as refused:
        _line(replies, {"refused": str(refused).removeprefix(f"{path}: ")})
        return
    inputs, outputs = network.inputs, network.outputs
    _line(replies, {"inputs": _told(inputs), "outputs": _told(outputs)})
    try:
        while True:
            found = network.execute({spec.name: _read(requests, spec) for spec in inputs})
            raw = b"".join(np.ascontiguousarray(found[spec.name], "<f4").tobytes() for spec in outputs)
            replies.write(DONE + raw)
            replies.flush()
    except EOFError:
        return
    except BundlerError as refused:
        replies.write(REFUSED)
        _line(replies, str(refused).removeprefix(f"{path}: "))


def _told(specs: Sequence[TensorSpec]) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(spec.name, spec.dtype, spec.shape) for spec in specs]


def _line(replies: IO[bytes], told: Any) -> None:
    replies.write(json.dumps(told).encode() + b"\n")
    replies.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one, which ends it
    with os.fdopen(os.dup(1), "wb") as ours:
        os.dup2(2, 1)  # what the libraries print
        _serve(Task(**json.loads(sys.argv[1])), sys.stdin.buffer, ours)
