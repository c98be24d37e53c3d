"""Tests DLCs that `build` and `inspect` refuse: two lines, an exit code, no files left."""

import random
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bundler.model.convert import onnx_to_dlc
from bundler.soc import DEFAULT, known_socs
from tests.models import LENGTH, model, qa_model
from tests.refusals import Refusal, build, isolate, refusal


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return isolate(tmp_path / "here", monkeypatch)


@pytest.fixture
def refused(here: Path, capfd: pytest.CaptureFixture[str]) -> Refusal:
    return partial(refusal, capfd)


@pytest.fixture(scope="module")
def qa_dlc(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("dlc")
    onnx.save(qa_model(), folder / "model.onnx")
    onnx_to_dlc(folder / "model.onnx", folder / "model.dlc", known_socs()[DEFAULT])
    return (folder / "model.dlc").read_bytes()


def doubled(outputs: dict[str, list[int]]) -> onnx.ModelProto:
    """Returns a model that doubles its input, with outputs of these names and shapes."""
    nodes = [helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT)]
    weights = {}
    for name, shape in outputs.items():
        weights[f"{name}_shape"] = np.array(shape)
        nodes.append(helper.make_node("Reshape", ["ids", f"{name}_shape"], [f"{name}_flat"]))
        nodes.append(helper.make_node("Add", [f"{name}_flat", f"{name}_flat"], [name]))
    kinds = {name: (TensorProto.FLOAT, shape) for name, shape in outputs.items()}
    return model(nodes, {"input_ids": (TensorProto.INT32, [1, 8])}, kinds, weights)


@pytest.mark.parametrize("content", [b"", b"just text\n" * 100, b"PK\x03\x04", b"\0" * 5000, bytes(range(256)) * 40])
def test_what_is_no_dlc(content: bytes, refused: Refusal) -> None:
    Path("model.dlc").write_bytes(content)
    refused(3, "model.dlc: is ", *build("model.dlc"))
    refused(3, "model.dlc: is ", "inspect", "model.dlc")


def test_a_zip_of_something_else(refused: Refusal) -> None:
    with zipfile.ZipFile("model.dlc", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(3, "model.dlc: ", *build("model.dlc"))


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_a_dlc_cut_short(share: float, qa_dlc: bytes, refused: Refusal) -> None:
    Path("model.dlc").write_bytes(qa_dlc[: int(len(qa_dlc) * share)])
    refused(3, "model.dlc: ", *build("model.dlc"))


def test_a_dlc_with_bits_flipped(here: Path, qa_dlc: bytes, refused: Refusal) -> None:
    """Flips bits in the description of the graph. (DLCs have no checksums: a changed weight is another model.)"""
    start = qa_dlc.index(b"NETD")
    for seed in range(4):
        flipped = bytearray(qa_dlc)
        for at in random.Random(seed).sample(range(start, start + 2000), 100):
            flipped[at] ^= 1 << at % 8
        Path("model.dlc").write_bytes(flipped)
        refused(3, "model.dlc: ", *build("model.dlc"))


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({"logits": [1, 8]}, "has no output start_logits (it has logits)"),
        ({"start_logits": [1, 8], "end_logits": [2, 4]}, "end_logits has shape [2, 4], not (1, length)"),
    ],
)
def test_a_dlc_of_another_model(outputs: dict[str, list[int]], said: str, refused: Refusal) -> None:
    onnx.save(doubled(outputs), "other.onnx")
    onnx_to_dlc(Path("other.onnx"), Path("model.dlc"), known_socs()[DEFAULT])
    refused(3, said, *build("model.dlc"))


def test_a_dlc_is_as_it_is(qa_dlc: bytes, refused: Refusal) -> None:
    Path("model.dlc").write_bytes(qa_dlc)
    refused(2, "a DLC is taken as it is", *build("model.dlc", "--precision", "w8a8"))
    refused(2, f"takes {LENGTH} tokens, not 128", *build("model.dlc", "--seq-len", "128"))
    refused(2, "SM8250 (Snapdragon 865): its HTP takes no", *build("model.dlc", "--prepare", "--soc", "SM8250"))
    Path("vocab.txt").unlink()
    refused(2, "no tokenizer.json or vocab.txt beside it", *build("model.dlc"))
