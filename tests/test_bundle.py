"""Tests the bundle: its contents, its reproducibility, and the detection of damaged files."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundler import layout
from bundler.bundle import Bundle, FileEntry, Manifest, Sample, drafting, read_bundle, seal, write_manifest
from bundler.engines import ENGINES, Engine
from bundler.errors import BundleInvalid, HostStorageFailed, NoBundle, QuestionsInvalid, UsageError
from bundler.files import sha256_of
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.types import Question, QuestionSet
from bundler.virtual.net_program import open_input_list
from tests.conftest import QUESTIONS, quiet


def test_holds_what_the_phone_needs(bundle: Bundle) -> None:
    device = bundle.path / layout.DEVICE
    windows = bundle.manifest.windows
    assert [window.question_id for window in windows] == ["when-built", "who", "long", "long"]
    inputs = {path for window in windows for path in window.inputs.values()}
    assert set(bundle.device_files) == {layout.MODEL, layout.INPUT_LIST, "run_qnn.sh", "run_snpe.sh"}
    files = {path.relative_to(device).as_posix() for path in device.rglob("*") if path.is_file()}
    assert files == {*bundle.device_files, *inputs}
    listing = open_input_list(str(device / layout.INPUT_LIST))
    assert listing.outputs == tuple(spec.name for spec in bundle.manifest.outputs)
    assert [dict(entries) for entries in listing.inferences] == [dict(window.inputs) for window in windows]
    for window in windows:
        assert [window.outputs["start_logits"], window.line] == [f"Result_{window.line}/start_logits.raw", window.line]
        ids, mask, types = (
            np.fromfile(device / window.inputs[name], "<f4")
            for name in ("input_ids", "attention_mask", "token_type_ids")
        )
        assert ids.shape == mask.shape == types.shape == (384,)
        assert ids.max() > 5
        assert set(mask) == {0, 1} or set(mask) == {1}
        assert mask[0] == 1
        assert (ids == ids.astype(int)).all()


def test_a_sample_has_some_questions_with_their_windows(bundle: Bundle) -> None:
    part = bundle.of(Sample(1, seed=5))  # draws the last of three
    assert [question.id for question in part.questions] == ["long"]
    assert [(window.question_id, window.line) for window in part.manifest.windows] == [("long", 2), ("long", 3)]
    assert part.offsets.tolist() == bundle.offsets[2:].tolist()
    assert bundle.of(None) is bundle
    assert Sample(2).places(3) == [0, 1]
    assert Sample(9).places(3) == Sample(9, seed=5).places(3) == [0, 1, 2]


def test_the_input_list_has_one_line_a_window_and_no_other(bundle: Bundle) -> None:
    lines = (bundle.path / layout.DEVICE / layout.INPUT_LIST).read_bytes().split(b"\n")
    assert lines[0].startswith(b"%")
    assert lines[-1] == b""
    assert [line.count(b":=") for line in lines[1:-1]] == [3] * len(bundle.manifest.windows)


def test_same_input_gives_same_bytes(bundle: Bundle, request_for: BuildRequest, tmp_path: Path) -> None:
    again = build_bundle(replace(request_for, cache=False), tmp_path / "again", quiet)
    assert again.id == bundle.id
    assert (again.path / layout.MANIFEST).read_bytes() == (bundle.path / layout.MANIFEST).read_bytes()


def test_host_files_read_back(bundle: Bundle, request_for: BuildRequest) -> None:
    assert tuple(bundle.questions) == tuple(request_for.questions)
    assert bundle.offsets.shape == (4, 384, 2)
    told = Manifest.from_json(bundle.manifest.to_json())
    assert replace(told, windows=bundle.manifest.windows) == bundle.manifest
    again = read_bundle(bundle.path)
    assert (again.id, tuple(again.manifest.windows)) == (bundle.id, tuple(bundle.manifest.windows))
    assert replace(again, manifest=bundle.manifest) == bundle
    files = [path for side in (layout.DEVICE, layout.HOST) for path in (bundle.path / side).rglob("*")]
    windows = bundle.manifest.windows
    assert bundle.checked_inputs() == {path for window in windows for path in window.inputs.values()}
    assert bundle.size_bytes == sum(path.stat().st_size for path in files if path.is_file())


def refused(path: Path, said: str) -> AbstractContextManager[object]:
    """Checks that the block refuses a bundle because of this file, with this message."""
    return pytest.raises(BundleInvalid, match=rf"^{re.escape(str(path))}: {said}$")


@pytest.mark.parametrize(
    "name",
    [
        "device/model.dlc",
        "device/input_list.txt",
        "device/inputs/input_ids/000002.raw",
        "device/inputs/attention_mask/000000.raw",
        "device/run_snpe.sh",
        "host/inputs.sha256",
        "host/offsets.npy",
        "host/questions.jsonl",
        "host/windows.jsonl",
    ],
)
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "folder"])
def test_damage_is_named(bundle: Bundle, name: str, damage: str) -> None:
    path = bundle.path / name
    data = bytearray(path.read_bytes())
    size = len(data)
    path.unlink()
    if damage == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:-1])
    elif damage == "folder":
        path.mkdir()
    said = {
        "flip": "was changed after the bundle was built",
        "cut": f"has {size - 1} bytes, and {size} were written",
        "remove": "cannot be read: No such file or directory",
        "folder": "is not a file",
    }
    with refused(path, said[damage]):
        read_bundle(bundle.path)


@pytest.mark.parametrize("damage", ["change", "remove", "nonsense"])
def test_a_manifest_must_be_the_one_that_was_sealed(bundle: Bundle, damage: str) -> None:
    manifest, checksum = bundle.path / layout.MANIFEST, bundle.path / layout.SEAL
    if damage == "change":
        manifest.write_text(manifest.read_text().replace('"w', '"v', 1).replace("\n", " \n", 1))
    elif damage == "remove":
        checksum.unlink()
    else:
        checksum.write_text("nonsense")
    path = checksum if damage == "remove" else manifest
    said = (
        "cannot be read: No such file or directory" if damage == "remove" else "was changed after the bundle was built"
    )
    with refused(path, said):
        read_bundle(bundle.path)


@pytest.mark.parametrize("name", [f"{layout.HOST}/{name}" for name in (layout.WINDOWS, layout.SUMS, layout.OFFSETS)])
def test_a_manifest_must_name_what_is_needed(bundle: Bundle, name: str) -> None:
    document = json.loads((bundle.path / layout.MANIFEST).read_text())
    del document["files"][name]
    (bundle.path / layout.MANIFEST).write_text(json.dumps(document))
    seal(bundle.path)
    with refused(bundle.path / layout.MANIFEST, f"does not name {name}"):
        read_bundle(bundle.path)


@pytest.mark.parametrize("name", ["inputs/other/000000.raw", "inputs/input_ids/000000.raw ", "../x", "\udcff", ""])
def test_a_list_of_inputs_names_inputs_only(bundle: Bundle, name: str) -> None:
    sums = bundle.path / layout.HOST / layout.SUMS
    sums.write_bytes(sums.read_bytes() + f"{'0' * 64}  {name}\n".encode(errors="surrogateescape"))
    entry = FileEntry(sums.stat().st_size, sha256_of(sums))
    files = {**bundle.manifest.files, f"{layout.HOST}/{layout.SUMS}": entry}
    write_manifest(bundle.path, replace(bundle.manifest, files=files))
    with refused(sums, re.escape(f"names {name!r}, which is not an input")):
        read_bundle(bundle.path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 99}', '{"schema": 1}', "null", '{"schema": 1, "windows": 3, "files": {}}']
)
def test_a_broken_manifest_is_refused(bundle: Bundle, text: str) -> None:
    (bundle.path / layout.MANIFEST).write_text(text)
    with pytest.raises(BundleInvalid, match=layout.MANIFEST):
        read_bundle(bundle.path)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "device/../../outside"])
def test_a_manifest_cannot_point_outside(bundle: Bundle, name: str) -> None:
    document = json.loads((bundle.path / layout.MANIFEST).read_text())
    document["files"][name] = document["files"]["device/model.dlc"]
    (bundle.path / layout.MANIFEST).write_text(json.dumps(document))
    seal(bundle.path)
    with refused(bundle.path / name, "lies outside the bundle"):
        read_bundle(bundle.path)


def test_a_folder_of_a_bundle_is_no_link_elsewhere(bundle: Bundle, tmp_path: Path) -> None:
    folder = bundle.path / layout.DEVICE / layout.INPUTS / "input_ids"
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with refused(folder / "000000.raw", "lies outside the bundle"):
        read_bundle(bundle.path)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(NoBundle, match=r"/bundle: there is no bundle here$"):
        read_bundle(tmp_path / "bundle")


def test_a_failed_build_leaves_nothing(request_for: BuildRequest, tmp_path: Path) -> None:
    wordless = replace(request_for, questions=QuestionSet((*QUESTIONS, Question("q", "who?", "\u200d")), False))
    with pytest.raises(QuestionsInvalid):
        build_bundle(wordless, tmp_path / "bundle", quiet)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_build_leaves_the_older_bundle(bundle: Bundle, request_for: BuildRequest) -> None:
    wordless = replace(request_for, questions=QuestionSet((*QUESTIONS, Question("q", "who?", "\u200d")), False))
    with pytest.raises(QuestionsInvalid):
        build_bundle(wordless, bundle.path, quiet)
    assert read_bundle(bundle.path).id == bundle.id
    assert [entry.name for entry in bundle.path.parent.iterdir()] == ["bundle"]


def test_a_new_build_replaces_an_older_bundle_and_keeps_its_runs(bundle: Bundle, request_for: BuildRequest) -> None:
    note = bundle.path / layout.RUNS / "cpu-1" / "answers.json"
    note.parent.mkdir(parents=True)
    note.write_text("kept")
    fewer = replace(request_for, questions=QuestionSet(request_for.questions.questions[:1], False))  # type: ignore[attr-defined]
    rebuilt = build_bundle(fewer, bundle.path, quiet)
    assert rebuilt.id != bundle.id
    assert len(rebuilt.manifest.windows) == 1
    assert note.read_text() == "kept"


def bundle_with_runs(folder: Path) -> Path:
    out = folder / "bundle"
    (out / layout.RUNS).mkdir(parents=True)
    (out / layout.RUNS / "answers.json").write_text("kept")
    (out / layout.MANIFEST).write_text("old")
    return out


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), PermissionError(13, "Permission denied")], ids=repr)
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(3))
def test_a_replacement_that_fails_brings_the_old_bundle_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, done: bool, failure: BaseException
) -> None:
    out, renamed, rename = bundle_with_runs(tmp_path), [], Path.rename

    def failing(path: Path, target: Path) -> Path:
        renamed.append(path)
        if len(renamed) != step + 1:
            return rename(path, target)
        if done:
            rename(path, target)
        raise failure

    def rebuild() -> None:
        with drafting(out) as draft:
            (draft / layout.MANIFEST).write_text("new")
            monkeypatch.setattr(Path, "rename", failing)

    with pytest.raises((KeyboardInterrupt, HostStorageFailed)):
        rebuild()
    assert len(renamed) > step
    assert (out / layout.MANIFEST).read_text() == "old"
    assert (out / layout.RUNS / "answers.json").read_text() == "kept"
    assert list(tmp_path.iterdir()) == [out]


def test_an_old_bundle_that_cannot_be_removed_costs_no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, remove = bundle_with_runs(tmp_path), os.rmdir

    def refusing(path: str | Path, **options: int) -> None:
        if ".old-" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        remove(path, **options)

    monkeypatch.setattr(os, "rmdir", refusing)
    with drafting(out) as draft:
        (draft / layout.MANIFEST).write_text("new")
    assert (out / layout.MANIFEST).read_text() == "new"
    assert (out / layout.RUNS / "answers.json").read_text() == "kept"


def test_what_is_no_bundle_is_not_replaced(request_for: BuildRequest, tmp_path: Path) -> None:
    precious = tmp_path / "bundle" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("mine")
    with pytest.raises(UsageError, match="is not a bundle"):
        build_bundle(request_for, precious.parent, quiet)
    assert precious.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs root to mount a small disk")
def test_a_full_disk_leaves_nothing(request_for: BuildRequest, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "small", str(disk)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not allow to mount a small disk")
    try:
        with pytest.raises(HostStorageFailed, match="No space left"):
            build_bundle(request_for, disk / "bundle", quiet)
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("engine", ENGINES.values(), ids=list(ENGINES))
def test_the_runners_are_clean_shell(engine: Engine, bundle: Bundle) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    script = bundle.path / layout.DEVICE / engine.runner
    done = subprocess.run([shellcheck, "-s", "sh", script], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode == 0
