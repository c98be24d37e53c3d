"""Tests reading and writing files of encodings: the DLC has the read values, and invalid files are refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bundler.cli import main
from bundler.dlc.encoding import Encoding
from bundler.dlc.graph import read_graph
from bundler.errors import EncodingsInvalid
from bundler.model.encodings import Given, encodings_for, encodings_text, read_encodings
from bundler.model.fixed_point import Encodings, asymmetric, symmetric
from bundler.model.graph import fit_for_htp
from bundler.model.onnx_graph import Net
from tests.models import LENGTH, qa_model, write_vocabulary
from tests.test_build_options import squad


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(qa_model(hidden=24), "model.onnx")
    write_vocabulary(Path())
    squad("questions.json", 4)
    return tmp_path


def build(capfd: pytest.CaptureFixture[str], *options: str, out: str = "bundle", model: str = "model.onnx") -> Any:
    """Builds a bundle; returns its exit code, and the report about the model or the error output."""
    capfd.readouterr()
    how = ("--model", model, "--tokenizer", "vocab.txt", "--questions", "questions.json", "--out", out, "--json")
    code = main(["build", *how, *options])
    said = capfd.readouterr()
    return code, json.loads(said.out)["model"] if code == 0 else said.err


def encodings_of(out: str) -> dict[str, Encoding | None]:
    graph = read_graph(Path(out) / "device/model.dlc")
    return {name: tensor.encoding for name, tensor in graph.tensors.items()}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["w8a8", "w8a16"])
@pytest.mark.parametrize("options", [(), ("--mixed",), ("--per-channel",)])
def test_what_is_saved_makes_the_same_dlc(
    precision: str, options: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    how = ("--precision", precision)
    code, _ = build(capfd, *how, *options, "--save-encodings", "saved.json")
    assert code == 0
    code, again = build(capfd, *how, "--encodings", "saved.json", "--save-encodings", "again.json", out="again")
    assert code == 0, again
    assert encodings_of("bundle") == encodings_of("again")
    assert Path("bundle/device/model.dlc").read_bytes() == Path("again/device/model.dlc").read_bytes()
    assert Path("saved.json").read_bytes() == Path("again.json").read_bytes()


@pytest.mark.slow
def test_the_scales_of_channels_are_saved_too(capfd: pytest.CaptureFixture[str]) -> None:
    spread = qa_model(hidden=24)
    for tensor in spread.graph.initializer:
        if tensor.name in ("query", "key"):
            value = numpy_helper.to_array(tensor).copy()
            value[:, 3] *= 4096 if tensor.name == "query" else 1 / 4096
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(spread, "spread.onnx")
    how = ("--precision", "w8a8")
    code, told = build(capfd, *how, "--save-encodings", "saved.json", model="spread.onnx")
    assert (code, bool(told["equalized"])) == (0, True)
    code, again = build(capfd, *how, "--encodings", "saved.json", out="again", model="spread.onnx")
    assert again["equalized"] == told["equalized"]
    assert encodings_of("bundle") == encodings_of("again")
    onnx.save(qa_model(hidden=16), "other.onnx")
    code, said = build(capfd, *how, "--encodings", "saved.json", out="other", model="other.onnx")
    assert code == 3
    assert "error: saved.json: is of another model than other.onnx: " in said


@pytest.mark.slow
def test_a_range_of_the_older_version_is_the_dlcs(capfd: pytest.CaptureFixture[str]) -> None:
    name = next(each.output[0] for each in Net(fit_for_htp(onnx.load("model.onnx"), LENGTH).model).ordered()
                if each.op_type == "Softmax")  # fmt: skip
    told = {"bitwidth": 8, "dtype": "int", "is_symmetric": "False", "min": 0.0, "max": 0.5}
    write = {"version": "0.6.1", "activation_encodings": {name: [told]}, "param_encodings": {}}
    Path("aimet.json").write_text(json.dumps(write))
    code, _ = build(capfd, "--precision", "w8a8", "--encodings", "aimet.json")
    assert code == 0
    scales = [each.scales[0] for each in encodings_of("bundle").values() if each is not None]
    assert sum(scale == pytest.approx(0.5 / 255) for scale in scales) == 1


def test_both_versions_say_the_same(here: Path) -> None:
    value = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    ours = Encodings(
        {"a": asymmetric(-1, 2, 8), "b": asymmetric(0, 5, 16)},
        {"w": symmetric(value, 8), "v": symmetric(value, 8, 1), "u": symmetric(value, 16, 0)},
    )
    Path("new.json").write_text(encodings_text(ours, (1, -2)))
    told = json.loads(Path("new.json").read_text())
    older: dict[str, Any] = {"version": "0.6.1"}
    for kind in ("activation_encodings", "param_encodings"):
        older[kind] = {
            each["name"]: [
                {"bitwidth": each["bw"], "dtype": "int", "is_symmetric": "True", "scale": scale, "offset": offset}
                for scale, offset in zip(each["scale"], each["offset"], strict=True)
            ]
            for each in told[kind]
        }
    Path("old.json").write_text(json.dumps(older))
    new, old = (read_encodings(Path(name)) for name in ("new.json", "old.json"))
    assert (new.exponents, old.exponents) == ((1, -2), ())
    for found in (new.encodings, old.encodings):
        for mine, theirs in ((ours.activations, found.activations), (ours.weights, found.weights)):
            assert mine.keys() == theirs.keys()
            for name, each in mine.items():
                assert np.array_equal(each.scale, theirs[name].scale)
                assert np.array_equal(each.zero_point, theirs[name].zero_point)
                assert each.zero_point.dtype == theirs[name].zero_point.dtype


def one(**changes: Any) -> dict[str, Any]:
    """Returns a file of one activation."""
    entry = {
        "name": "a",
        "dtype": "INT",
        "bw": 8,
        "enc_type": "PER_TENSOR",
        "is_sym": False,
        "scale": [1],
        "offset": [0],
    }
    return {"version": "1.0.0", "activation_encodings": [entry | changes], "param_encodings": []}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ([], "is not a file of encodings"),
        ({}, "is not a file of encodings"),
        ({"version": "1.0.0", "activation_encodings": 7, "param_encodings": []}, "is not a file of encodings"),
        (one() | {"version": "2.0.0"}, "has version '2.0.0'"),
        (one(bw=4), "a has int of 4 bits"),
        (one(dtype="FLOAT", bw=16), "a has float of 16 bits"),
        (one(scale=["x"]), "a has no scale"),
        (one(scale=[0.0]), "a has a scale that is not a positive number"),
        (one(scale=[float("nan")]), "a has a scale that is not a positive number"),
        (one(scale=[1, 2]), "a has a scale that is not a positive number, or not as many offsets"),
        (one(scale=[1, 2], offset=[0, 0]), "a is an activation with 2 scales"),
        (one(offset=[1]), "a has an offset that is not a whole number from -255 to 0"),
        (one(offset=[-256]), "a has an offset"),
        (one(offset=[-0.5]), "a has an offset"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_encodings_is_refused(told: Any, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("bad.json").write_text(told if isinstance(told, str) else json.dumps(told))
    code, shown = build(capfd, "--precision", "w8a8", "--encodings", "bad.json")
    assert code == 3
    assert f"bad.json: {said}" in shown
    assert len(shown.strip().splitlines()) == 2
    assert not Path("bundle").exists()


def test_encodings_of_other_tensors_are_refused() -> None:
    fit, original = fit_for_htp(qa_model(hidden=24), LENGTH, "model.onnx"), Net(qa_model(hidden=24))
    given = Given(Path("x.json"), Encodings({"strange": asymmetric(0, 1, 8), "other": asymmetric(0, 1, 8)}))
    with pytest.raises(
        EncodingsInvalid, match=r"x\.json: is of tensors that model\.onnx has not: strange and 1 others"
    ):
        encodings_for(fit, given, original)
    with pytest.raises(EncodingsInvalid, match="says nothing of how"):
        encodings_for(fit, replace(given, encodings=Encodings({"words": asymmetric(0, 1, 8)})), original)
    net = Net(fit.model)
    name = next(each.input[1] for each in net.ordered() if each.op_type == "Gemm" and each.input[1] in net.constants)
    few = Encodings({}, {name: symmetric(np.ones((5, 5), np.float32), 8, 1)})
    with pytest.raises(EncodingsInvalid, match="has 5 scales for"):
        encodings_for(fit, replace(given, encodings=few), original)
    shifted = Encodings({}, {name: replace(symmetric(np.ones((2, 2)), 8), zero_point=np.array(3, np.int8))})
    with pytest.raises(EncodingsInvalid, match="is a weight with an offset"):
        encodings_for(fit, replace(given, encodings=shifted), original)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--encodings is for fixed point"),
        (("--precision", "fp16"), "--encodings is for fixed point"),
        (("--precision", "auto"), "--encodings says what tensors are rounded to"),
        (("--precision", "w8a8", "--mixed"), "--encodings says what tensors are rounded to"),
        (("--precision", "w8a8", "--no-per-channel"), "--encodings says what tensors are rounded to"),
        (("--model", "other.dlc"), "other.dlc: a DLC is taken as it is"),
    ],
)
def test_options_that_do_not_go_with_encodings(
    options: tuple[str, ...], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, shown = build(capfd, *options, "--encodings", "any.json")
    assert (code, said in shown) == (2, True), shown


@pytest.mark.slow
def test_a_file_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    code, shown = build(capfd, "--precision", "w8a8", "--encodings", "none.json")
    assert (code, "none.json: cannot be read" in shown) == (3, True)
    code, told = build(capfd, "--precision", "auto", "--keep", "0", "--save-encodings", "auto.json")
    assert (code, told["precision"]) == (0, "w8a8")
    assert read_encodings(Path("auto.json")).encodings.activations
