"""Makes bundles of any size with a finished run of synthetic logits, so that fetch-answers needs no phone.

python -m tests.finished 2000 100000        prints the peak memory of fetch-answers for these numbers of questions
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from bundler.bundle import Bundle
from bundler.device.chunks import chunks_of
from bundler.device.job import Settings
from bundler.device.outputs import keep
from bundler.model.make import Recipe
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.runs.record import Part, Run
from bundler.soc import DEFAULT, known_socs
from bundler.types import Question
from tests.deploying import quiet
from tests.models import qa_model, write_vocabulary

LENGTH = 64  # tokens of a window
CHUNK = 500  # windows, as deploy takes them
SEED = 7
CONTEXT = "Bridge {} “Brücke”, é\u0301 \u6a4b, was built by Ada Lovelace in the year {} and it is still there."


@dataclass(frozen=True)
class MadeUp:
    """`count` questions, made on iteration."""

    count: int
    may_be_unanswerable: bool

    def __iter__(self) -> Iterator[Question]:
        for number in range(self.count):
            yield Question(f"q{number}", f"When was {number} built?", CONTEXT.format(number, 1000 + number))


def finished_bundle(
    out: Path, count: int, *, may_be_unanswerable: bool = True, size: int = CHUNK
) -> tuple[Bundle, Run]:
    """Makes the bundle, and a run of it on the CPU."""
    bundle = built_bundle(out, count, may_be_unanswerable=may_be_unanswerable)
    part = Part("made-up", "SM8650", "none", {"cpu": len(bundle.manifest.windows)}, 1, 2.5)
    run = Run(bundle.id, Settings("0123456789abcdef", "cpu", chunk=size), ("made-up",), "2026-01-01T00:00:00+00:00")
    run = run.ended([part], 3.0)
    noise, specs = np.random.default_rng(SEED), bundle.manifest.outputs
    for chunk in chunks_of(len(bundle.manifest.windows), size):
        logits = {spec.name: noise.normal(0, 3, (len(chunk), *spec.shape)).astype(np.float32) for spec in specs}
        keep(logits, run.folder(out), chunk)
    run.save(out)
    return bundle, run


def built_bundle(out: Path, count: int, *, may_be_unanswerable: bool = True, length: int = LENGTH) -> Bundle:
    """Builds a bundle of a small model and many questions, each with one window."""
    with tempfile.TemporaryDirectory(prefix="mbqa-model-") as folder:
        model = Path(folder) / "model.onnx"
        onnx.save(qa_model(length=length), model)
        request = BuildRequest(
            questions=MadeUp(count, may_be_unanswerable),
            model=model, tokenizer=write_vocabulary(model.parent), soc=known_socs()[DEFAULT],
            recipe=Recipe("fp32", converter="built-in"),
        )  # fmt: skip
        return build_bundle(request, out, quiet)


def most_memory(bundle: Path) -> tuple[float, float]:
    """Returns (megabytes, seconds) of `mbqa-bundle fetch-answers --json` in a separate process."""
    begun = time.perf_counter()
    argv = [sys.executable, "-m", "bundler.cli", "fetch-answers", "--json", "--bundle", str(bundle)]
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"fetch-answers ended with {child.returncode}")
    return used.ru_maxrss * 1024 / 1e6, time.perf_counter() - begun


if __name__ == "__main__":
    for count in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory(prefix="mbqa-finished-") as folder:
            finished_bundle(Path(folder) / "bundle", count)
            peak, seconds = most_memory(Path(folder) / "bundle")
        sys.stdout.write(f"{count:,} questions: {peak:.0f} MB at most, {seconds:.1f} s\n")
