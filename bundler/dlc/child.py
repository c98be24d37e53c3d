"""Runs a DLC's network in a child process: Qualcomm's libraries print, may crash, and scale badly over cores.

`Networks` keeps one process for each concurrent thread. A process is `python -m bundler.dlc.child TASK`, where TASK is
JSON. It writes a line of JSON; then, for each inference on standard input, it writes a byte and the outputs.
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
    """A DLC on a runtime; `soc_model` is QNN's id of the chip for `dsp`. `prepared`: a compiled context to use instead
    of compiling the DLC; `save`: where to write the compiled context, without running it."""

    dlc: str
    runtime: Runtime
    soc_model: int = 0
    prepared: str = ""
    save: str = ""


class ChildDied(DlcInvalid):
    """The process ended without an answer."""


class Child:
    """A process that runs the DLC at `path`, whose tensors are `inputs` and `outputs`.

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
        """Returns the outputs by name, float32, for inputs of any number type, each of its tensor's shape.

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
        """Kills the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # unwritten data has no reader
                    pipe.close()

    @contextmanager
    def _within(self, limit_s: float) -> Iterator[IO[bytes]]:
        """Yields the process's output; kills the process after `limit_s`.

        Raises:
            ChildDied; DlcInvalid: the time limit was reached
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
    """A DLC that several threads run concurrently, each in a process that is reused later."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._lock = threading.Lock()
        self._closed = False

    def execute(self, feed: Arrays) -> Logits:
        """Runs `Child.execute`; retries an inference once, in another process, if its process dies.

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
        """Starts another process. Raises: as `Child`; ChildDied: `close` was called meanwhile"""
        child = Child(self._task)
        with self._lock:
            if not self._closed:
                self._all.add(child)
                return child
        child.close()
        raise ChildDied(child.path, "its process was ended before it began")

    def close(self) -> None:
        """Ends all processes, including busy ones; one that is still starting ends once it has started."""
        with self._lock:
            self._closed = True
            ended, self._idle, self._all = [*self._all], [], set()
        for child in ended:
            child.close()


def cores() -> int:
    """Returns the number of cores that this process may use."""
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
    """Performs the task and sends each reply immediately."""
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    with os.fdopen(os.dup(1), "wb") as ours:
        os.dup2(2, 1)  # what the libraries print
        _serve(Task(**json.loads(sys.argv[1])), sys.stdin.buffer, ours)
