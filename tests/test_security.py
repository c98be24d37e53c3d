"""Tests the claims of docs/security.md about bundles, models and names on this computer."""

import json
import os
import pickle
import shlex
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bundler import layout
from bundler.bundle import Bundle, read_bundle, seal
from bundler.cli import main
from bundler.console import Console, PlainProgress, show_error
from bundler.device.chunks import Archiver, chunks_of
from bundler.dlc.onnx_sessions import cpu_session
from bundler.errors import BundleInvalid, InputError, PhoneRefused, VendorToolFailed
from bundler.evaluation.latency import latency_of
from bundler.model.sdk import open_sdk
from bundler.model.vendor import convert_with_sdk
from bundler.model.vendor_plan import VendorJob
from bundler.runs.record import Run
from bundler.runs.reference import OnnxNetwork, reference_logits, verify_logits
from bundler.soc import known_socs
from bundler.types import TensorSpec
from tests.deploying import quiet
from tests.fake_sdk import make_sdk
from tests.hostile import names

NOBODY = ("--adb-host", "192.0.2.1", "--adb-port", "1")
COMMANDS: dict[str, tuple[str, ...]] = {
    "deploy": ("deploy", *NOBODY, "--bundle"),
    "fetch-answers": ("fetch-answers", *NOBODY, "--bundle"),
    "stop": ("stop", *NOBODY, "--bundle"),
    "bench": ("bench", *NOBODY, "--bundle"),
    "evaluate": ("evaluate",),
}


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def files_of(bundle: Bundle) -> list[str]:
    """Returns all files of a bundle except its runs."""
    names = (path.relative_to(bundle.path).as_posix() for path in bundle.path.rglob("*") if path.is_file())
    return sorted(name for name in names if not name.startswith(f"{layout.RUNS}/"))


def rewrite(bundle: Bundle, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a manifest and seals it again, like an attacker with a handmade bundle."""
    path = bundle.path / layout.MANIFEST
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))
    seal(bundle.path)


def put(bundle: Bundle, name: str, content: bytes) -> None:
    """Writes a file that matches the manifest."""
    (bundle.path / name).write_bytes(content)
    entry = {"size": len(content), "sha256": sha256(content).hexdigest()}
    rewrite(bundle, lambda told: told["files"].update({name: entry}))


def test_every_file_of_a_bundle_is_checked_before_use(bundle: Bundle) -> None:
    """Includes the manifest and its checksum: a changed bit in any file is detected, and the file is named."""
    names_in_it = files_of(bundle)
    assert {layout.MANIFEST, layout.SEAL, "device/model.dlc", "host/windows.jsonl"} < set(names_in_it)
    assert sum(name.startswith("device/inputs/") for name in names_in_it) > 3
    for name in names_in_it:
        path = bundle.path / name
        good = path.read_bytes()
        for at in {0, len(good) // 2, len(good) - 1}:
            bad = bytearray(good)
            bad[at] ^= 1
            path.write_bytes(bad)
            with pytest.raises(BundleInvalid, match=r"manifest\.json" if name == layout.SEAL else Path(name).name):
                read_bundle(bundle.path)
        path.write_bytes(good)
        path.unlink()
        with pytest.raises(InputError):
            read_bundle(bundle.path)
        path.write_bytes(good)
    assert read_bundle(bundle.path).id == bundle.id


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", [layout.MANIFEST, "device/run_snpe.sh", "host/questions.jsonl"])
def test_every_command_checks(command: str, name: str, bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    path = bundle.path / name
    path.write_bytes(path.read_bytes().replace(b"e", b"f", 1))
    assert main([*COMMANDS[command], str(bundle.path)]) == 3
    assert name in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["link", "linked folder", "pipe", "device", "folder"])
def test_what_is_no_plain_file_of_the_bundle_is_refused(kind: str, bundle: Bundle, tmp_path: Path) -> None:
    tokenizer = bundle.path / "host/tokenizer.json"
    if kind == "linked folder":
        (bundle.path / "host").rename(tmp_path / "host")
        (bundle.path / "host").symlink_to(tmp_path / "host")
    elif kind == "link":
        tokenizer.rename(tmp_path / "secret")
        tokenizer.symlink_to(tmp_path / "secret")
    else:
        tokenizer.unlink()
        if kind == "pipe":
            os.mkfifo(tokenizer)
        elif kind == "device":
            tokenizer.symlink_to("/dev/zero")
        else:
            tokenizer.mkdir()
    with pytest.raises(BundleInvalid, match=r"is not a file|lies outside the bundle"):
        read_bundle(bundle.path)


def test_paths_in_a_manifest(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"")
    entry = {"size": 0, "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
    good = (bundle.path / layout.MANIFEST).read_text()
    for name in ("../secret", str(tmp_path / "secret"), "device/../../secret", "/etc/passwd", "a\0b", "\ud800", ""):
        rewrite(bundle, lambda told, name=name: told["files"].update({name: entry}))  # type: ignore[misc]
        with pytest.raises(BundleInvalid):
            read_bundle(bundle.path)
        (bundle.path / layout.MANIFEST).write_text(good)


@pytest.mark.parametrize("name", ["../../secret.raw", "/etc/passwd", "inputs/input_ids/../../../secret", "model.dlc"])
def test_names_of_inputs(name: str, bundle: Bundle, tmp_path: Path) -> None:
    """A window that names a file other than its own inputs would send it to the phone; so would the list of checksums,
    and the input list would make snpe-net-run read it."""
    (tmp_path / "secret.raw").write_bytes(bytes(1536))
    good = {each: (bundle.path / each).read_bytes() for each in ("host/windows.jsonl", "host/inputs.sha256")}
    first = bundle.manifest.windows[0].inputs["input_ids"].encode()
    for file, content in good.items():
        put(bundle, file, content.replace(first, name.encode(), 1))
        with pytest.raises(BundleInvalid):
            list(read_bundle(bundle.path).manifest.windows)
        put(bundle, file, content)
    listing = "device/input_list.txt"
    put(bundle, listing, (bundle.path / listing).read_bytes().replace(first, name.encode(), 1))
    (chunk,) = chunks_of(len(bundle.manifest.windows), 500)
    with pytest.raises(BundleInvalid, match="other files than its window"):
        Archiver(read_bundle(bundle.path), tmp_path / "spool").archive(chunk, compressed=True)


@pytest.mark.parametrize("name", ["host/offsets.npy", "host/verify.npz"])
def test_arrays_of_a_bundle_are_no_code(name: str, bundle: Bundle, tmp_path: Path) -> None:
    bomb = np.array([Bomb(tmp_path / "run")], dtype=object)
    path = tmp_path / "bomb"
    with path.open("wb") as file:
        np.save(file, bomb) if name.endswith(".npy") else np.savez(file, lines=bomb, start_logits=bomb, end_logits=bomb)
    put(bundle, name, path.read_bytes())
    opened = read_bundle(bundle.path)
    with pytest.raises(BundleInvalid):
        _ = opened.offsets if name.endswith(".npy") else verify_logits(opened)
    assert not (tmp_path / "run").exists()
    pickle.loads(pickle.dumps(Bomb(tmp_path / "run")))  # and it is one
    assert (tmp_path / "run").exists()


def test_settings_in_a_runs_record(bundle: Bundle, tmp_path: Path) -> None:
    """The contents of a foreign bundle's runs/ are passed to a phone's script, which reads them as shell."""
    settings = {"id": "0", "runtime": "cpu"}
    record = {"bundle_id": bundle.id, "settings": settings, "phones": ["A"], "started": "2026-01-02T03:04:05"}
    path = tmp_path / layout.RUN
    path.write_text(json.dumps(record))
    assert Run.read(path).settings.id == "0"
    for key in ("id", "runtime", "perf_profile", "platform_options", "fallback"):
        for name in names(tmp_path / "canary"):
            if key not in ("runtime", "fallback") and all(char.isalnum() or char in "_:;.,=+-" for char in name):
                continue
            path.write_text(json.dumps({**record, "settings": {**settings, key: name}}))
            with pytest.raises(InputError, match="is not a record of a run"):
                Run.read(path)


@pytest.mark.parametrize("location", ["../../../secret.bin", "/etc/hostname"])
def test_a_reference_model_reads_no_other_files(location: str, bundle: Bundle, tmp_path: Path) -> None:
    """A bundle's float32 model declares that its weights are elsewhere: ONNX Runtime must not read them."""
    model = onnx.load(bundle.path / "host/reference.onnx")
    weights = next(each for each in model.graph.initializer if each.data_type == 1 and len(each.raw_data) > 64)
    (tmp_path / "secret.bin").write_bytes(weights.raw_data)
    length = len(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        weights.external_data.add(key=key, value=value)
    put(bundle, "host/reference.onnx", model.SerializeToString())
    with pytest.raises(Exception, match=r"[Ee]xternal data path"):
        OnnxNetwork(cpu_session(bundle.path / "host/reference.onnx"))
    with pytest.raises(BundleInvalid, match=r"reference\.onnx"):
        reference_logits(read_bundle(bundle.path), quiet)


TOOL = """#!/bin/sh
printf '%s\\0' "$0" "$@" >>"${0%/*}/told"
[ -z "$FAIL" ] || { echo "ERROR: refused"; exit 3; }
while [ $# -gt 0 ]; do
  case $1 in --output_path | -o) echo made >"$2" ;; esac
  shift
done
"""


def shown_in(error: VendorToolFailed) -> str:
    """Returns the command that a user is expected to paste."""
    return error.hint.partition("To repeat it: ")[2]


def paste(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_folders_of_an_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders may have any name: the tools get the right arguments, and the shown command can be pasted."""
    odd = "sdk $(touch canary) `touch canary` ' \" ; & x"
    sdk = make_sdk(tmp_path / odd, "2.25")
    tools = sdk / "bin/x86_64-linux-clang"
    for tool in ("snpe-onnx-to-dlc", "snpe-diagview"):
        (tools / tool).write_text(TOOL)
        (tools / tool).chmod(0o755)
    model = tmp_path / odd / "model $(touch canary).onnx"
    model.write_bytes(b"")
    specs = [TensorSpec(name, "int32", (1, 4)) for name in ("input_ids", "start_logits")]
    job = VendorJob(model, tuple(specs[:1]), tuple(specs[1:]), known_socs()["SM8550"], ())
    monkeypatch.chdir(tmp_path)
    commands = convert_with_sdk(open_sdk(sdk), job, tmp_path / odd / "model.dlc", tmp_path / odd / "log")
    told = (tools / "told").read_text().split("\0")
    assert told[:-1] == shlex.split(commands[0])
    assert str(model) in told
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(VendorToolFailed, match="refused") as failed:
        convert_with_sdk(open_sdk(sdk), job, tmp_path / odd / "model.dlc", tmp_path / odd / "log")
    assert paste(shown_in(failed.value), tmp_path).stdout == "ERROR: refused\n"
    log = tmp_path / odd / "diag/0000000-0000001.log"
    log.parent.mkdir()
    log.write_bytes(b"")
    with pytest.raises(VendorToolFailed, match="refused") as failed:
        latency_of([tmp_path / odd], "cpu", tools / "snpe-diagview")
    assert paste(shown_in(failed.value), tmp_path).stdout == "ERROR: refused\n"
    assert not list(tmp_path.rglob("canary"))


def test_what_a_phone_says_does_not_reach_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """Control characters, which a terminal would obey, are shown as escapes: in lines, tables, progress and errors."""
    hostile = "a\x1b[2Jb\x07\r\x9b31m\u202ec\nd"
    console = Console()
    console.say(hostile)
    console.warn(hostile)
    console.table((hostile,), [(hostile,)])
    PlainProgress()(hostile, 0, None)
    show_error(PhoneRefused(hostile, hostile, hostile))
    Console(as_json=True).document({"text": hostile})
    said = capfd.readouterr()
    assert said.out.count("\\x1b") > 2
    for text in (said.out, said.err):
        assert not {char for char in text if not char.isprintable()} - {"\n", "\u202e"}
    assert "\u202e" not in said.err
