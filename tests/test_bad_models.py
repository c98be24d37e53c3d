"""Tests ONNX files, transformers folders and hubs that `build` refuses: two lines, an exit code, no files left.

Folders that need torch are in test_pretrained.py, and a hub that answers is in test_hub.py.
"""

import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bundler.cli import main
from bundler.model.sources import embedding_rows, open_model
from bundler.qa.features import load_tokenizer, tokenizer_text
from bundler.resources import DEMO_TOKENIZER
from tests.deploying import quiet
from tests.fake_sdk import write
from tests.models import LENGTH, VOCABULARY, qa_model, write_vocabulary
from tests.refusals import Refusal, build, isolate, refusal

Change = Callable[[onnx.ModelProto], None]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return isolate(tmp_path / "here", monkeypatch)


@pytest.fixture
def refused(here: Path, capfd: pytest.CaptureFixture[str]) -> Refusal:
    return partial(refusal, capfd)


# ONNX files


def set_opset(made: onnx.ModelProto, version: int) -> None:
    made.opset_import[0].version = version


def set_weight(made: onnx.ModelProto, value: float) -> None:
    words = made.graph.initializer[0]
    changed = numpy_helper.to_array(words).copy()
    changed[3, 3] = value
    words.CopyFrom(numpy_helper.from_array(changed, words.name))


def set_constant(made: onnx.ModelProto) -> None:
    """Replaces an initializer by a Constant node with NaN."""
    bias = next(tensor for tensor in made.graph.initializer if tensor.name == "bias")
    made.graph.initializer.remove(bias)
    value = numpy_helper.from_array(np.array([np.nan, 1], np.float32), "bias")
    made.graph.node.insert(0, helper.make_node("Constant", [], ["bias"], value=value))


def rename_output(made: onnx.ModelProto) -> None:
    made.graph.output[0].name = made.graph.node[-2].output[0] = "logits"


def replace_node(made: onnx.ModelProto, old: str, new: onnx.NodeProto) -> None:
    node = next(node for node in made.graph.node if node.op_type == old)
    new.input.extend(node.input)
    new.output.extend(node.output)
    node.CopyFrom(new)


def mean_logits(made: onnx.ModelProto, *, declared: bool) -> None:
    """Changes the model's logits to (1, 1): one number for the whole text, like a classifier's."""
    squeeze = made.graph.node[-1]
    squeeze.output[0] = "each"
    made.graph.node.append(helper.make_node("ReduceMean", ["each"], ["end_logits"], axes=[1], keepdims=1))
    if declared:
        made.graph.output[1].type.tensor_type.shape.dim[1].dim_value = 1
    else:
        made.graph.output[1].type.tensor_type.ClearField("shape")


def add_branch(made: onnx.ModelProto) -> None:
    def branch(kind: str) -> onnx.GraphProto:
        given = helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(kind, ["activated"], ["chosen"])], kind, [], [given])

    nodes = made.graph.node
    at = next(index for index, node in enumerate(nodes) if node.op_type == "Relu")
    reader = next(node for node in nodes if node.input[0] == "activated")
    reader.input[0] = "branched"
    tests = [
        helper.make_node("ReduceMax", ["attention_mask"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["any"], to=TensorProto.BOOL),
        helper.make_node("If", ["any"], ["branched"], then_branch=branch("Identity"), else_branch=branch("Neg")),
    ]
    for offset, node in enumerate(tests):
        nodes.insert(at + 1 + offset, node)


CHANGES: dict[str, tuple[Change, str]] = {
    "other inputs": (lambda m: setattr(m.graph.input[0], "name", "pixels"), "takes pixels"),
    "other outputs": (rename_output, "has no output start_logits (it has logits, end_logits)"),
    "float ids": (
        lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.FLOAT),
        "input input_ids is float32, not int32 or int64",
    ),
    "several texts": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 8),
        f"input input_ids has shape [8, {LENGTH}], not (1, length)",
    ),
    "other lengths": (
        lambda m: setattr(m.graph.input[1].type.tensor_type.shape.dim[1], "dim_value", 128),
        f"its inputs differ in length: [{LENGTH}, 128, {LENGTH}]",
    ),
    "integer logits": (
        lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", TensorProto.INT64),
        "output start_logits is int64, not float32",
    ),
    "an output of another shape": (lambda m: mean_logits(m, declared=True), "output end_logits has shape [1, 1]"),
    "an output whose shape is not declared": (
        lambda m: mean_logits(m, declared=False),
        f"output end_logits has shape [1, 1] for {LENGTH} tokens",
    ),
    "old opset": (lambda m: set_opset(m, 8), "its opset 8 is too old"),
    "opset of the future": (lambda m: set_opset(m, 99), "opset 99 cannot be brought to 21"),
    "NaN": (lambda m: set_weight(m, np.nan), "weight words is not finite"),
    "infinity": (lambda m: set_weight(m, -np.inf), "weight words is not finite"),
    "NaN in a node": (set_constant, "gives logits that are not finite"),
    "an operator that the HTP lacks": (
        lambda m: replace_node(m, "Relu", helper.make_node("Sinh", [], [])),
        "the HTP does not take operator Sinh",
    ),
    "an operator of somebody's own": (
        lambda m: replace_node(m, "Relu", helper.make_node("FastGelu", [], [], domain="com.microsoft")),
        "holds operators of com.microsoft",
    ),
    "control flow": (add_branch, "holds control flow (If)"),
    "a weight beyond float16": (lambda m: set_weight(m, 1e6), "weight words does not fit float16"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_an_onnx_that_is_no_sound_question_answering_model(case: str, refused: Refusal) -> None:
    change, said = CHANGES[case]
    made = qa_model()
    change(made)
    Path("model.onnx").write_bytes(made.SerializeToString())
    assert "model.onnx: " in refused(3, said, *build("model.onnx"))


def test_operators_are_checked_before_the_long_part(refused: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bundler.model.make.calibrate", None)  # it is not come to
    made = qa_model()
    replace_node(made, "Relu", helper.make_node("Sinh", [], []))
    onnx.save(made, "model.onnx")
    refused(3, "the HTP does not take operator Sinh", *build("model.onnx", "--precision", "w8a8"))


@pytest.mark.parametrize(
    "content", [b"", b"no ONNX at all", bytes(range(256)) * 10, qa_model().SerializeToString()[:-999]]
)
def test_a_file_that_is_no_onnx(content: bytes, refused: Refusal) -> None:
    Path("model.onnx").write_bytes(content)
    refused(3, "model.onnx: ", *build("model.onnx"))


@pytest.mark.parametrize(
    ("content", "said", "remedy"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is a Git LFS pointer", "git lfs pull"),
        (b"\n<!DOCTYPE html><html></html>", "is an HTML page", "/resolve/"),
        (b"<html>Sign in</html>", "is an HTML page", "/resolve/"),
        (b"\x1f\x8b\x08\0\0\0", "is packed with gzip", "gunzip"),
        (b"PK\x03\x04\x14\0", "is a zip archive", "config.json"),
        (b"\x80\x02\x8a\n", "is a pickle", "config.json"),
        (b"\x1c\0\0\0TFL3\0", "is a TensorFlow Lite model", "optimum-cli"),
        (b"\x40\0\0\0\0\0\0\0" + b'{"__metadata__":{}}', "is a safetensors file", "config.json"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name(content: bytes, said: str, remedy: str, refused: Refusal) -> None:
    Path("model.onnx").write_bytes(content)
    assert remedy in refused(3, f"model.onnx: {said}", *build("model.onnx"))


def test_a_vocabulary_larger_than_the_embedding(here: Path, refused: Refusal) -> None:
    onnx.save(qa_model(), "model.onnx")
    rows = len((here / "vocab.txt").read_text(encoding="utf-8").splitlines())
    assert embedding_rows(onnx.load(here / "model.onnx")) == rows
    with (here / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("bridge\n" if "bridge" not in VOCABULARY else "quizzical\n")
    word = "bridge" if "bridge" not in VOCABULARY else "quizzical"
    asked = ("build", "--model", "model.onnx", "--question", f"A {word}?", "--context", "The bridge was built in 1808.")
    said = f"vocab.txt: gives the token id {rows}, and the model model.onnx has ids below {rows} only"
    assert "--tokenizer" in refused(3, said, *asked)


def test_an_onnx_for_another_number_of_tokens(refused: Refusal) -> None:
    onnx.save(qa_model(), "model.onnx")
    refused(2, f"takes {LENGTH} tokens, not 128", *build("model.onnx", "--seq-len", "128"))
    refused(2, "--seq-len 100000", *build("model.onnx", "--seq-len", "100000"))


def test_a_bundle_that_is_there_stays_as_it_was(here: Path, refused: Refusal) -> None:
    onnx.save(qa_model(), "model.onnx")
    assert main(build("model.onnx")) == 0
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    Path("cut.onnx").write_bytes(before[here / "model.onnx"][:-999])
    refused(3, "cut.onnx: ", *build("cut.onnx"))
    refused(4, "is not an SNPE or QAIRT SDK", *build("model.onnx", "--sdk", "bundle"))
    assert all(path.read_bytes() == content for path, content in before.items())


# Weights in files beside the ONNX


@pytest.fixture
def external(here: Path) -> Path:
    """Returns a folder with the vocabulary and model.onnx, whose weights are in weights.bin beside it."""
    folder = here / "model"
    folder.mkdir()
    write_vocabulary(folder)
    onnx.save(qa_model(), folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    return folder


def point(folder: Path, location: str) -> None:
    """Changes every weight's location."""
    made = onnx.load(folder / "model.onnx", load_external_data=False)
    for tensor in made.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    (folder / "model.onnx").write_bytes(made.SerializeToString())


def move_out(folder: Path) -> Path:
    return Path(shutil.move(folder / "weights.bin", folder.parent / "secret.bin"))


def test_weights_beside_the_onnx_are_taken(external: Path) -> None:
    assert main(build(external / "model.onnx")) == 0


def test_weights_that_are_not_there_or_cut_short(external: Path, refused: Refusal) -> None:
    data = external / "weights.bin"
    data.write_bytes(data.read_bytes()[:5000])
    refused(3, "model.onnx: ", *build(external / "model.onnx"))
    data.unlink()
    hint = refused(3, "its external data cannot be read", *build(external / "model.onnx"))
    assert "Keep its data files beside the ONNX file" in hint


@pytest.mark.parametrize("way", ["parent", "absolute", "link", "linked folder", "hard link"])
def test_weights_outside_the_models_folder(way: str, external: Path, refused: Refusal) -> None:
    """A foreign model must not read files of this machine into a bundle."""
    secret = move_out(external)
    if way == "parent":
        point(external, "../secret.bin")
    elif way == "absolute":
        point(external, str(secret))
    elif way == "link":
        (external / "weights.bin").symlink_to(secret)
    elif way == "hard link":
        (external / "weights.bin").hardlink_to(secret)
    else:
        (external / "data").symlink_to(external.parent)
        point(external, "data/secret.bin")
    refused(3, "its external data cannot be read", *build(external / "model.onnx"))


# Transformers folders and the hub


def transformers_folder(folder: Path, **config: Any) -> Path:
    folder.mkdir()
    shutil.copy(DEMO_TOKENIZER, folder / "tokenizer.json")
    told = {"model_type": "mobilebert", "architectures": ["MobileBertForQuestionAnswering"], **config}
    write(folder / "config.json", json.dumps(told))
    (folder / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    return folder


def test_an_adapter_is_no_model(here: Path, refused: Refusal) -> None:
    write(here / "lora" / "adapter_config.json", "{}")
    write(here / "lora" / "adapter_model.safetensors", "")
    assert "merge_and_unload" in refused(3, "lora: is an adapter", *build("lora/"))


def test_an_address_of_the_hub_is_the_model_s_name(refused: Refusal) -> None:
    for text in ("https://huggingface.co/owner/name", "https://huggingface.co/owner/name/", "owner/name/"):
        refused(4, "owner/name: there is no such folder here", *build(text))


@pytest.mark.parametrize("lowercase", [True, False])
def test_a_tokenizer_s_configuration_prevails(lowercase: bool, here: Path) -> None:
    """transformers sets BERT's normalizer from it."""
    made = json.loads(load_tokenizer(here / "vocab.txt").to_str())
    made["normalizer"]["lowercase"] = not lowercase
    write(here / "tokenizer.json", json.dumps(made))
    assert tokenizer_text(here / "tokenizer.json") == (here / "tokenizer.json").read_text(encoding="utf-8")
    write(here / "tokenizer_config.json", json.dumps({"do_lower_case": lowercase}))
    normalizer = load_tokenizer(here / "tokenizer.json").normalizer
    assert normalizer.normalize_str("Built") == ("built" if lowercase else "Built")
    assert json.loads(tokenizer_text(here / "tokenizer.json"))["normalizer"]["lowercase"] is lowercase


def test_a_folder_with_its_onnx_one_below(here: Path) -> None:
    (here / "xenova" / "onnx").mkdir(parents=True)
    onnx.save(qa_model(), here / "xenova" / "onnx" / "model.onnx")
    shutil.copy(here / "vocab.txt", here / "xenova")
    source = open_model(here / "xenova", None, None, here, quiet)
    assert source.path == here / "xenova" / "onnx" / "model.onnx"
    assert source.tokenizer == here / "xenova" / "vocab.txt"


def test_a_folder_that_holds_no_model(here: Path, refused: Refusal) -> None:
    (here / "empty").mkdir()
    refused(3, "empty: has no config.json", *build("empty"))
    folder = transformers_folder(here / "bert")
    (folder / "model.safetensors").unlink()
    refused(3, "bert: has no weights", *build("bert"))
    write(folder / "tf_model.h5", "weights")
    refused(3, "has no weights for PyTorch, only tf_model.h5", *build("bert"))
    write(folder / "model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    refused(3, "is a Git LFS pointer", *build("bert"))
    write(folder / "model.safetensors", "weights")
    refused(3, "model.safetensors: is not a safetensors file, or was cut short", *build("bert"))
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    whole = len(header).to_bytes(8, "little") + header + bytes(8)
    (folder / "model.safetensors").write_bytes(whole[:-3])
    refused(3, f"model.safetensors: has {len(whole) - 3} bytes of {len(whole)}", *build("bert"))
    (folder / "model.safetensors").write_bytes(whole)
    (folder / "tokenizer.json").unlink()
    assert "--tokenizer" in refused(3, "bert: has no tokenizer", *build("bert"))
    write(folder / "config.json", "{")
    refused(3, "config.json: is not JSON", *build("bert"))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "is a model of type 'gpt2'"),
        ({"architectures": ["MobileBertForMaskedLM"]}, "is a MobileBertForMaskedLM, no question-answering model"),
        ({"max_position_embeddings": 128}, "takes at most 128 tokens, not 384"),
        ({"vocab_size": 30}, "its tokenizer has 2121 pieces, and its model knows 30"),
    ],
)
def test_a_folder_with_a_model_of_another_kind(config: dict[str, Any], said: str, here: Path, refused: Refusal) -> None:
    transformers_folder(here / "bert", **config)
    refused(3, said, *build("bert"))


def test_an_onnx_beside_weights_is_taken_without_torch(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = transformers_folder(here / "bert")
    onnx.save(qa_model(), folder / "model.onnx")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert open_model(folder, None, None, here, quiet).path == folder / "model.onnx"


def test_without_torch(here: Path, refused: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    transformers_folder(here / "bert")
    hint = refused(4, "torch", *build("bert"))
    assert "pip install 'mbqa-bundle[export]'" in hint


def test_a_model_on_the_hub_without_network(refused: Refusal) -> None:
    hint = refused(4, "huggingface.co gives no answer", *build("somebody/no-such-mobilebert"))
    assert "HTTPS_PROXY" in hint
    assert "config.json" in hint
    refused(3, "there is no such file, folder or model on the hub", *build("somebody/no/model"))
    refused(3, "nowhere.onnx: cannot be read", *build("nowhere.onnx"))
