"""What a bundle's files are written and read with: drafts, lines of JSON, arrays, values whose kinds are looked at."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from bundler import layout
from bundler.bundle import drafting, file_entries, lines, sha256_of, writing
from bundler.bundle.arrays import map_array, read_arrays
from bundler.bundle.lines import JsonLines
from bundler.bundle.typed import typed
from bundler.errors import BundleInvalid, HostStorageFailed, UsageError

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
    assert str(caught.value) == f"{out}: is there already, and is no bundle"
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
    monkeypatch.setattr(lines, "PIECE", piece)
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


def test_lines_are_equal_to_the_same_items(tmp_path: Path) -> None:
    for name, text in (("one", "1\n2\n"), ("other", "1\n2\n"), ("longer", "1\n2\n3\n"), ("different", "1\n3\n")):
        (tmp_path / name).write_text(text)
    one, other, longer, different = (
        JsonLines(tmp_path / name, numbered) for name in ("one", "other", "longer", "different")
    )
    assert one == other == [(0, 1), (1, 2)]
    assert one != longer
    assert one != different
    assert one != {(0, 1), (1, 2)}
    with pytest.raises(TypeError):
        hash(one)


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


# arrays

KIND = (np.float32, (2, 3))
VALUES = np.arange(6, dtype="<f4").reshape(2, 3)


def npy(values: Any) -> bytes:
    made = io.BytesIO()
    np.save(made, values)
    return made.getvalue()


def version_2(values: Any) -> bytes:
    made = io.BytesIO()
    np.lib.format.write_array(made, values, version=(2, 0))
    return made.getvalue()


NO_ARRAYS = [
    (npy(VALUES.astype("<f8")), r"it is float64 \(2, 3\), not float32 \(2, 3\)"),
    (npy(VALUES.astype(">f4")), r"it is >f4 \(2, 3\), not float32 \(2, 3\)"),
    (npy(VALUES.T), r"it is float32 \(3, 2\), not float32 \(2, 3\)"),
    (npy(np.asfortranarray(VALUES)), r"it is float32 \(2, 3\), not float32 \(2, 3\)"),
    (version_2(VALUES), r"its format is \(2, 0\)"),
    (b"no array", "magic string"),
    (npy(VALUES).replace(b"{", b"\0"), "its header is damaged|header"),
]


def test_an_array_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(npy(VALUES))
    found = map_array(path, KIND)
    assert isinstance(found, np.memmap)
    assert found.tolist() == VALUES.tolist()
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        *NO_ARRAYS,
        (npy(VALUES)[:-1], "it was cut short, or is too long, or empty"),
        (npy(VALUES) + b"x", "it was cut short, or is too long, or empty"),
    ],
)
def test_what_is_no_such_array_is_not_mapped(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        map_array(path, KIND)


def test_an_empty_array_is_not_mapped(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(npy(VALUES[:0]))
    with pytest.raises(ValueError, match="empty"):
        map_array(path, (np.float32, (0, 3)))


def test_arrays_are_read_by_their_names(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, one=VALUES, other=VALUES.astype("<i4"))
    found = read_arrays(path, {"other": (np.int32, (2, 3)), "one": KIND})
    assert {name: (values.dtype, values.tolist()) for name, values in found.items()} == {
        "one": (np.float32, VALUES.tolist()),
        "other": (np.int32, VALUES.tolist()),
    }
    found["one"][0, 0] = 7  # it is nobody else's
    with pytest.raises(ValueError, match="third"):
        read_arrays(path, {"third": KIND})
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "nowhere", {"one": KIND})


@pytest.mark.parametrize(("content", "said"), [*NO_ARRAYS, (npy(VALUES)[:-1], "x was cut short")])
def test_what_are_no_such_arrays_are_not_read(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(ValueError, match=said):
        read_arrays(path, {"x": KIND})
    path.write_bytes(content)
    with pytest.raises(ValueError, match="zip file"):
        read_arrays(path, {"x": KIND})


# values whose kinds are looked at


@dataclass(frozen=True)
class Inner:
    x: int


@dataclass(frozen=True)
class Outer:
    name: str
    share: float
    inner: Inner | None
    kind: Literal["a", "b"] | Literal[""]
    many: tuple[Inner, ...]
    sizes: Mapping[str, int]
    several: Sequence[str] = ()
    flag: bool = False


GOOD = {"name": "n", "share": 0.5, "inner": {"x": 1}, "kind": "a", "many": [{"x": 2}, {"x": 3}], "sizes": {"k": 4}}


def test_a_value_becomes_what_it_is_to_be() -> None:
    assert typed(Outer, GOOD) == Outer("n", 0.5, Inner(1), "a", (Inner(2), Inner(3)), {"k": 4}, (), False)
    more = {**GOOD, "share": 7, "inner": None, "kind": "", "several": ["x"], "flag": True}
    found = typed(Outer, more)
    assert found == Outer("n", 7.0, None, "", (Inner(2), Inner(3)), {"k": 4}, ("x",), True)
    assert type(found.share) is float


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": 7}, "it.name is not of the kind str"),
        ({"name": None}, "it.name is not of the kind str"),
        ({"share": "7"}, "it.share is not of the kind float"),
        ({"share": 1 << 53}, "it.share is not of the kind float"),
        ({"share": True}, "it.share is not of the kind float"),
        ({"inner": 7}, "it.inner is no object"),
        ({"inner": {}}, "it.inner has no x"),
        ({"inner": {"x": 1, "y": 2}}, "it.inner has an unknown 'y'"),
        ({"inner": {"x": 1.0}}, "it.inner.x is not of the kind int"),
        ({"inner": {"x": True}}, "it.inner.x is not of the kind int"),
        ({"kind": "c"}, "it.kind is not one of ''"),
        ({"kind": ["a"]}, "it.kind is not one of ''"),
        ({"many": {}}, "it.many is not of the kind tuple"),
        ({"many": [{"x": 2}, {"x": "3"}]}, r"it.many\[1\].x is not of the kind int"),
        ({"sizes": []}, "it.sizes is not of the kind Mapping"),
        ({"sizes": {"k": "4"}}, "it.sizes.k is not of the kind int"),
        ({"several": "x"}, "it.several is not of the kind Sequence"),
        ({"flag": 1}, "it.flag is not of the kind bool"),
        ({"odd": 1}, "it has an unknown 'odd'"),
    ],
)
def test_a_value_of_another_kind_is_named(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        typed(Outer, {**GOOD, **changed})


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match=r"^it has no kind$"):
        typed(Outer, {name: value for name, value in GOOD.items() if name not in ("name", "kind")})
    with pytest.raises(ValueError, match=r"^this is no object$"):
        typed(Outer, [], "this")
