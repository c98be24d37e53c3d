"""Tests a bundle's arrays, values and manifest: wrong types are refused by name."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from bundler.bundle.arrays import map_array, read_arrays, write_arrays
from bundler.bundle.parsing import typed
from bundler.bundle.records import SCHEMA, CalibrationRecord, Check, FileEntry, Manifest, ModelRecord, Window
from bundler.files import sha256_of
from bundler.types import TensorSpec

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


def test_written_arrays_have_the_same_bytes_with_every_python(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write_arrays(path, {"one": VALUES, "lines": np.arange(3)})
    assert read_arrays(path, {"one": KIND})["one"].tolist() == VALUES.tolist()
    assert sha256_of(path) == "d9c015da2969a8546ebd3fb555430c6aaa5defdf8b274abb947560cd83a4366c"


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
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one.npy", npy(VALUES) + b"more than was asked for")
    assert read_arrays(path, {"one": KIND})["one"].tolist() == VALUES.tolist()
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
        ({"inner": 7}, "it.inner is not an object"),
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
    with pytest.raises(ValueError, match=r"^this is not an object$"):
        typed(Outer, [], "this")


# the manifest

MODEL = ModelRecord(
    "m",
    "w8a16",
    "built-in",
    "SM8650",
    4,
    2,
    -100.0,
    CalibrationRecord("q", 1, 0, "min-max", False, 0),
    Check(1, 1, 1, 9),
)
SPECS = tuple(TensorSpec(name, "int32", (1, 8)) for name in ("input_ids", "attention_mask"))
LOGITS = tuple(TensorSpec(name, "float32", (1, 8)) for name in ("start_logits", "end_logits"))
MANIFEST = Manifest(SCHEMA, "caf\u00e9", MODEL, SPECS, LOGITS, 30, True, (), {"a/b": FileEntry(1, "0" * 64)})


def test_a_manifest_is_read_as_it_was_written() -> None:
    text = MANIFEST.to_json()
    assert Manifest.from_json(text) == MANIFEST
    assert text.endswith("}\n")
    assert text.count("\n") > 20  # for people too
    assert "caf\u00e9" in text
    assert "windows" not in json.loads(text)
    window = Window("q#0", "q", 0, {}, {})
    assert replace(MANIFEST, windows=[window]).to_json() == text
    bare = replace(MANIFEST, model=replace(MODEL, calibration=None, check=None, float_bytes=None, mask_size=None))
    assert Manifest.from_json(bare.to_json()) == bare


def tensor(name: str, shape: Sequence[int] = (1, 8)) -> dict[str, Any]:
    return {"name": name, "dtype": "float32", "shape": list(shape)}


BOTH = [tensor("start_logits"), tensor("end_logits")]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"schema": 2}, "schema 2, and this release reads 3"),
        ({"schema": None}, "schema None, and this release reads 3"),
        ({"windows": []}, "it is not an object with a manifest's fields"),
        ({"odd": 1}, "it has an unknown 'odd'"),
        ({"max_answer_tokens": 0}, "max_answer_tokens is below 1"),
        ({"inputs": []}, "its tensors are start_logits, end_logits"),
        ({"inputs": [], "outputs": []}, "its tensors are none"),
        ({"outputs": [tensor("start_logits")]}, "its tensors are input_ids, attention_mask, start_logits"),
        ({"outputs": [*BOTH, tensor("end_logits")]}, "its tensors are .*, start_logits, end_logits, end_logits"),
        ({"inputs": [tensor("end_logits")]}, "its tensors are end_logits, start_logits, end_logits"),
        ({"inputs": [tensor("../x")]}, "'../x' is not a tensor's name"),
        ({"inputs": [tensor("1x")]}, "'1x' is not a tensor's name"),
        ({"inputs": [tensor("x"), tensor("y", (1, 9))]}, r"y has shape \[1, 9\], not the \(1, length\) of all"),
        ({"inputs": [tensor("x", (1, 9))]}, r"start_logits has shape \[1, 8\], not the \(1, length\) of all"),
        *(
            (
                {"inputs": [tensor("x", shape)], "outputs": [tensor(each["name"], shape) for each in BOTH]},
                rf"x has shape \[{', '.join(map(str, shape))}\], not the \(1, length\) of all",
            )
            for shape in ((), (8,), (2, 8), (1, 0), (1, 8, 1), (1, (1 << 20) + 1))
        ),
    ],
)
def test_a_manifest_that_tells_something_else_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        Manifest.from_json(json.dumps({**json.loads(MANIFEST.to_json()), **changed}))


def test_the_least_and_the_most_that_a_manifest_may_tell() -> None:
    for length in (1, 1 << 20):
        specs, logits = (tuple(replace(spec, shape=(1, length)) for spec in side) for side in (SPECS, LOGITS))
        told = replace(MANIFEST, inputs=specs, outputs=logits, max_answer_tokens=1)
        assert Manifest.from_json(told.to_json()) == told
    with pytest.raises(ValueError, match=r"^it is not an object with a manifest's fields$"):
        Manifest.from_json("[]")
