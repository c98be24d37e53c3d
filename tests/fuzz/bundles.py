"""Fuzzes foreign bundles: the manifest, the files that stay here, and the records of runs."""

import hashlib
import json
import shutil
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np

from bundler import layout
from bundler.bundle import (
    SCHEMA,
    Bundle,
    FileEntry,
    Manifest,
    ModelRecord,
    file_entries,
    read_bundle,
    seal,
    write_manifest,
)
from bundler.bundle.arrays import write_arrays
from bundler.bundle.inputs import kept_questions, write_windows
from bundler.commands.model_view import run_lines
from bundler.device.chunks import Archiver, Chunk, chunks_of
from bundler.device.job import Settings
from bundler.device.outputs import keep, kept_chunks, load
from bundler.device.probe import read_facts
from bundler.device.timings import ChunkTimes, keep_times
from bundler.evaluation.latency import latency_of, memory_of
from bundler.pipeline.fetch import Fetched
from bundler.qa.spans import USUAL
from bundler.runs.answers import decode_answers
from bundler.runs.predictions import write_answers
from bundler.runs.record import Part, Run, newest_run, runs_of
from bundler.runs.reference import real_tokens, verify_logits, window_inputs
from bundler.scheduler.supply import base_files
from bundler.types import OUTPUTS, Feature, Question, TensorSpec
from tests.fuzz import work

LENGTH = 6
INPUTS = ("input_ids", "attention_mask")
MOST_VALUES = 1 << 16
RUN_FILES = (layout.RUN, f"{layout.TIMES}/0000000-0000002.json", f"{layout.LOGITS}/0000002-0000003.npz")
RUN = Run("", Settings("0123abcd", "cpu", chunk=2), ("A",), "2026-01-02T03:04:05", True, 1.5, (Part("A", "S", "M"),))


def _question(number: int) -> Question:
    return Question(f"q{number}", "who?", "Ann and Bob", answers=("Ann",), impossible=False)


def _feature(number: int) -> Feature:
    offsets = np.full((LENGTH, 2), -1, np.int32)
    offsets[3:6] = [(0, 3), (4, 7), (8, 11)]
    tokens = np.arange(number, number + LENGTH, dtype=np.int32)
    inputs = {"input_ids": tokens, "attention_mask": np.ones(LENGTH, np.int32)}
    return Feature(f"q{number}#0", f"q{number}", inputs, offsets)


def write_bundle(path: Path) -> None:
    """Writes a bundle of three questions in three windows; its model is invalid."""
    for name in (layout.HOST, layout.DEVICE):
        (path / name).mkdir(parents=True)
    tuple(kept_questions(map(_question, range(3)), path / layout.HOST))
    write_windows(map(_feature, range(3)), INPUTS, path)
    inputs = set(file_entries(path / layout.DEVICE))
    listed = [f"input_ids:={layout.input_file('input_ids', line)}" for line in range(3)]
    (path / layout.DEVICE / layout.INPUT_LIST).write_text("\n".join(["%start_logits end_logits", *listed, ""]))
    (path / layout.DEVICE / layout.MODEL).write_bytes(b"DLC")
    logits = {name: np.zeros((3, 1, LENGTH), np.float32) for name in OUTPUTS}
    write_arrays(path / layout.HOST / layout.VERIFY, {"lines": np.arange(3), **logits})
    write_manifest(path, _manifest(path, inputs))


def _manifest(path: Path, inputs: set[str]) -> Manifest:
    files = {name: entry for name, entry in file_entries(path).items() if name.removeprefix("device/") not in inputs}
    specs = tuple(TensorSpec(name, "int32", (1, LENGTH)) for name in INPUTS)
    outputs = tuple(TensorSpec(name, "float32", (1, LENGTH)) for name in OUTPUTS)
    record = ModelRecord("none", "fp16", "built-in", "SM8650", 5, 3, -40.0, None, None)
    return Manifest(SCHEMA, "test", record, specs, outputs, 3, True, (), files)


def write_run(path: Path, bundle_id: str) -> Path:
    """Writes the record of a finished run with its outputs and times; returns its folder."""
    run = Run(**{**vars(RUN), "bundle_id": bundle_id})
    run.save(path)
    folder = run.folder(path)
    for chunk in chunks_of(3, 2):
        keep({name: np.ones((len(chunk), 1, LENGTH), np.float32) for name in OUTPUTS}, folder, chunk)
        keep_times(ChunkTimes("A", "cpu", len(chunk), 0.5, (0.1,) * len(chunk), True, 100), folder, chunk)
    return folder


@cache
def _fresh(name: str) -> Path:
    path = work.folder("bundles") / name
    write_bundle(path)
    return path


def manifest(data: bytes) -> None:
    """Reads a bundle's manifest.json."""
    path = _fresh("manifest")
    (path / layout.MANIFEST).write_bytes(data)
    seal(path)
    _use(read_bundle(path))


def host_file(data: bytes) -> None:
    """Reads a file of a bundle that matches its manifest; the first line is its name."""
    path, good = _fresh("host"), _fresh("good")
    head, _, content = data.partition(b"\n")
    name = head.decode(errors="replace")
    if name not in json.loads((good / layout.MANIFEST).read_text())["files"]:
        return
    (path / name).write_bytes(content)
    try:
        told = json.loads((good / layout.MANIFEST).read_text())
        told["files"][name] = asdict(FileEntry(len(content), hashlib.sha256(content).hexdigest()))
        (path / layout.MANIFEST).write_text(json.dumps(told))
        seal(path)
        _use(read_bundle(path))
    finally:
        shutil.copyfile(good / name, path / name)


@cache
def _finished() -> tuple[Bundle, Path]:
    bundle = read_bundle(_fresh("run"))
    return bundle, write_run(bundle.path, bundle.id)


def run_file(data: bytes) -> None:
    """Reads a file of a run's folder; the first line is its name; BUNDLE in it stands for the bundle's id."""
    bundle, folder = _finished()
    head, _, content = data.partition(b"\n")
    name = head.decode(errors="replace")
    if name not in RUN_FILES:
        return
    path = folder / name
    good = path.read_bytes()
    try:
        path.write_bytes(content.replace(b"BUNDLE", bundle.id.encode()))
        _use_run(bundle)
    finally:
        path.write_bytes(good)


def _use_run(bundle: Bundle) -> None:
    for run in runs_of(bundle):
        assert all(isinstance(line, str) for line in run_lines(run))
    run = newest_run(bundle)  # type: ignore[assignment]
    if run is not None:
        folder = run.folder(bundle.path)
        assert folder.parent == bundle.path / layout.RUNS
        latency_of([folder], run.settings.runtime)
        memory_of(folder, run.settings.runtime)
        for chunk in kept_chunks(folder):
            load(folder, chunk, bundle.manifest.outputs)
        write_answers(bundle, run, Fetched(bundle, run, USUAL).answered())


def _use(bundle: Bundle) -> None:
    """Uses a bundle like deploy, fetch-answers and evaluate, without the phone and the model."""
    assert tuple(bundle.questions) is not None
    assert bundle.size_bytes >= 0
    base_files(bundle, read_facts("", 0), Settings("0123", "dsp", engine="qnn"), work.folder("files"))
    spool = work.folder("spool")
    chunk = Chunk(0, max(1, len(bundle.manifest.windows)))
    name, _ = Archiver(bundle, spool).archive(chunk, compressed=True)
    (spool / name).unlink()
    for window in bundle.manifest.windows:
        window_inputs(bundle, window)
    real_tokens(bundle, bundle.manifest.windows)
    if f"{layout.HOST}/{layout.VERIFY}" in bundle.manifest.files:
        verify_logits(bundle)
    shapes = {spec.name: (len(chunk), *spec.shape) for spec in bundle.manifest.outputs}
    if sum(int(np.prod(shape)) for shape in shapes.values()) < MOST_VALUES:
        keep({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, spool, chunk)
        _decode(bundle, spool, len(chunk))


def _decode(bundle: Bundle, folder: Path, size: int) -> None:
    for answer in decode_answers(bundle, folder, size):
        json.dumps(asdict(answer), ensure_ascii=False).encode()
