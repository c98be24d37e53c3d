"""Tests how a bundle's files are written, atomically, and how its JSON lines are read."""

import json
from pathlib import Path
from typing import Any

import pytest

from bundler import layout
from bundler.bundle import drafting, file_entries, json_lines
from bundler.bundle.json_lines import JsonLines
from bundler.errors import BundleInvalid, HostStorageFailed, UsageError
from bundler.files import sha256_of, writing

# drafts


def bundle_at(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / layout.MANIFEST).write_text("old")
    return folder


def write_and_fail(path: Path) -> None:
    path.write_text("new")
    raise ZeroDivisionError


def test_a_draft_becomes_the_bundle(tmp_path: Path) -> None:
    out = tmp_path / "a/b/bundle"
    with drafting(out) as draft:
        assert (draft.parent, draft.is_dir()) == (out.parent, True)
        assert draft.name.startswith(".bundle.draft-")
        (draft / "x").write_text("new")
        assert not out.exists()
    assert (out / "x").read_text() == "new"
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]


def test_a_draft_replaces_an_older_bundle_but_for_its_runs(tmp_path: Path) -> None:
    out = bundle_at(tmp_path / "bundle")
    (out / layout.RUNS).mkdir()
    (out / layout.RUNS / "answers").write_text("kept")
    with drafting(out) as draft:
        (draft / "x").write_text("new")
        assert (out / layout.MANIFEST).read_text() == "old"
    assert {path.name for path in out.iterdir()} == {"x", layout.RUNS}
    assert (out / layout.RUNS / "answers").read_text() == "kept"


def test_a_draft_that_fails_vanishes(tmp_path: Path) -> None:
    out = bundle_at(tmp_path / "bundle")
    with pytest.raises(ZeroDivisionError), drafting(out) as draft:
        write_and_fail(draft / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (out / layout.MANIFEST).read_text() == "old"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_draft_takes_the_place_of_a_bundle_or_of_nothing_only(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "thesis").write_text("mine")
    with pytest.raises(UsageError) as caught, drafting(out):
        pass
    assert str(caught.value) == f"{out}: already exists and is not a bundle"
    assert caught.value.hint == "Choose another folder with --out."
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_draft_takes_the_place_of_an_empty_folder(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    out.mkdir()
    with drafting(out) as draft:
        (draft / "x").write_text("new")
    assert (out / "x").read_text() == "new"


def test_where_no_draft_can_be_the_disk_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(HostStorageFailed, match=r"/file\b.*: .*(File exists|Not a directory)"),
        drafting(tmp_path / "file/bundle"),
    ):
        pass
    with pytest.raises(HostStorageFailed, match=r"bundle.*: no name, no number$"), drafting(tmp_path / "bundle"):
        raise OSError("no name, no number")
    with pytest.raises(HostStorageFailed, match=r"elsewhere.*: No space left"), drafting(tmp_path / "bundle"):
        raise OSError(28, "No space left", "elsewhere")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a/b/file"
    with writing(path) as draft:
        draft.write_text("first")
        assert (draft.parent, path.exists()) == (path.parent, False)
        assert draft.name.startswith(".file.draft-")
    with pytest.raises(ZeroDivisionError), writing(path) as draft:
        write_and_fail(draft)
    assert path.read_text() == "first"
    with writing(path) as draft:
        draft.write_text("third")
    assert path.read_text() == "third"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]
    with pytest.raises(HostStorageFailed, match=r"a/b/file: .*No such file"), writing(path):
        pass  # nothing was written
    with pytest.raises(HostStorageFailed, match=r"a/b/file.*: no number$"), writing(path):
        raise OSError("no number")


def test_files_are_listed_with_size_and_checksum(tmp_path: Path) -> None:
    for name in ("b", "a/z", "a/y/x", "left/out"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = file_entries(tmp_path, besides=tmp_path / "left")
    assert list(found) == ["a/y/x", "a/z", "b"]
    assert {name: entry.size for name, entry in found.items()} == {"a/y/x": 5, "a/z": 3, "b": 1}
    assert found["b"].sha256 == "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"
    assert found["a/z"].sha256 == sha256_of(tmp_path / "a/z")
    assert list(file_entries(tmp_path)) == ["a/y/x", "a/z", "b", "left/out"]


# lines of JSON


def numbered(number: int, value: Any) -> tuple[int, Any]:
    return number, value


@pytest.mark.parametrize("piece", [1, 3, 1 << 20])
def test_lines_are_a_sequence(piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "PIECE", piece)
    values = ["a", "caf\u00e9", {"x": [1]}, "\u2028", None]
    path = tmp_path / "lines"
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8")
    found = JsonLines(path, numbered)
    expected = list(enumerate(values))
    assert (len(found), list(found)) == (5, expected)
    assert [found[at] for at in (0, 4, -1, -5)] == [expected[at] for at in (0, 4, -1, -5)]
    for part in (slice(1, 3), slice(None), slice(3, 1), slice(-2, None), slice(0, 5, 2), slice(None, None, -1)):
        assert list(found[part]) == expected[part]
    assert list(reversed(found)) == expected[::-1]
    for at in (5, -6):
        with pytest.raises(IndexError):
            found[at]
    assert (1, "caf\u00e9") in found


def test_no_lines(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("")
    assert list(JsonLines(tmp_path / "lines", numbered)) == []
    assert len(JsonLines(tmp_path / "lines", numbered)) == 0


def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("1\n{\n" + "[" * 100_000 + "\n")
    found = JsonLines(path, numbered)
    assert found[0] == (0, 1)
    with pytest.raises(BundleInvalid, match=rf"^{path}: line 2 is not what build writes: Expecting property name"):
        found[1]
    with pytest.raises(BundleInvalid, match=rf"^{path}: line 3 is not what build writes: "):
        found[2]
