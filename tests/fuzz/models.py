"""Fuzzes the files for a build: a tokenizer, an ONNX file, a DLC; and the list of inputs on the phone."""

import contextlib
import io
import json
import os
import resource
from pathlib import Path

from bundler.dlc import inspect
from bundler.dlc.archive import read_archive
from bundler.model.graph import fit_for_htp
from bundler.model.sources import load_adapted, specs_of
from bundler.model.tokenizers import tokenizer_of
from bundler.qa.features import Windower
from bundler.types import Question
from bundler.virtual.net_files import World
from bundler.virtual.net_run import NAME, run
from tests.fuzz import work
from tests.fuzz.transport import phone_storage

QUESTION = Question("q", "Who is it?", "It is Ann, the tower \U0001f469\u200d\U0001f680 of cafe\u0301 1808.")


def tokenizer(data: bytes) -> None:
    """Reads a file about the tokenizer in a model's folder; the first line is its name."""
    from bundler.qa.features import load_tokenizer

    name, _, content = data.partition(b"\n")
    folder = work.folder("tokenizer")
    for old in folder.iterdir():
        old.unlink()
    (folder / "config.json").write_text('{"vocab_size": 30000}')
    if name in (b"tokenizer_config.json", b"config.json"):
        (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nit\nis\n##n\na\n")
    known = ("tokenizer.json", "vocab.txt", "spiece.model", "tokenizer_config.json", "config.json")
    if name.decode(errors="replace") not in known:
        return
    (folder / name.decode()).write_bytes(content)
    made = load_tokenizer(tokenizer_of(folder, work.folder("made")))
    for feature in Windower(made, 48, 8).windows([QUESTION]):
        text = "".join(QUESTION.context[start:end] for start, end in feature.offsets.tolist() if end > start >= 0)
        assert set(text) <= set(QUESTION.context)


def onnx(data: bytes) -> None:
    """Reads an ONNX file, as far as before any processing."""
    path = work.folder("onnx") / "model.onnx"
    path.write_bytes(data)
    adapted, _ = load_adapted(path, None, {})
    specs_of(path, adapted)


def onnx_graph(data: bytes) -> None:
    """Rewrites an ONNX file for the HTP."""
    path = work.folder("onnx") / "graph.onnx"
    path.write_bytes(data)
    adapted, _ = load_adapted(path, None, {})
    inputs, _ = specs_of(path, adapted)
    fit_for_htp(adapted, inputs[0].shape[1], path.name)


def dlc_archive(data: bytes) -> None:
    """Reads the ZIP archive of a DLC."""
    path = work.folder("dlc") / "archive.dlc"
    path.write_bytes(data)
    json.dumps([step.arguments for step in read_archive(path).history])


def dlc(data: bytes) -> None:
    """Reads a DLC in a child process, as `inspect_dlc` does; crashes of the libraries there are no findings."""
    folder = work.folder("dlc")
    path, report = folder / "model.dlc", folder / "report.json"
    path.write_bytes(data)
    report.unlink(missing_ok=True)
    pid = os.fork()
    if not pid:
        _live(path, report)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code <= 0, f"the child failed: {code}"
    if code == 0:
        found = inspect._reported(path, json.loads(report.read_text(encoding="utf-8")))
        assert found.to_json()


def _live(path: Path, report: Path) -> None:
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open(os.devnull, "w") as null:  # noqa: PTH123
            os.dup2(null.fileno(), 1)
            os.dup2(null.fileno(), 2)
        report.write_text(json.dumps(inspect._child(path)), encoding="utf-8")
        code = 0
    finally:
        os._exit(code)


class _NoFaults:
    time_s = 0.0

    def begin(self) -> None: ...
    def finish(self, _: object) -> None: ...


def input_list(data: bytes) -> None:
    """Reads input_list.txt with the stand-in for snpe-net-run."""
    if b"/" in data:  # outputs would be written where the list says
        return
    here, world = phone_storage().root / "data/local/tmp", World(lambda: "SM8650", _NoFaults())  # type: ignore[arg-type]
    (here / "list").write_bytes(data)
    argv = [NAME, "--container", "file", "--input_list", "list", "--output_dir", "out"]
    with (
        contextlib.chdir(here),
        contextlib.redirect_stderr(io.StringIO()) as said,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        status = run(argv, world, io.StringIO())
    assert status == 0 or said.getvalue().strip()
