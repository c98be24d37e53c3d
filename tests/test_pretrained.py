"""Tests invalid question-answering models: refused before anything is written, and without running a model's code."""

import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from bundler.errors import BundlerError, ExtraMissing, FileUnreadable, HostStorageFailed, ModelInvalid  # noqa: E402
from bundler.model import export, pretrained  # noqa: E402
from bundler.model.export import export_model  # noqa: E402
from bundler.model.tokenizers import tokenizer_of  # noqa: E402
from tests import families  # noqa: E402
from tests.conftest import quiet  # noqa: E402
from tests.families import change_config, change_weights  # noqa: E402

families.silence()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return families.save_folder(families.small_model("bert"), tmp_path_factory.mktemp("sound") / "bert")


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """Returns a BERT's folder, which tests may damage."""
    return Path(shutil.copytree(sound, tmp_path / "bert"))


def refusal(folder: Path, tmp_path: Path, length: int = 64) -> BundlerError:
    """Returns the refusal of `folder`; nothing may be left behind."""
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(BundlerError) as caught:
        export_model(folder, target / "model.onnx", length, quiet)
    assert list(target.iterdir()) == []
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_folder_without_config_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").unlink()
    error = refusal(folder, tmp_path)
    assert error.exit_code == 3
    assert "has no config.json" in str(error)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00"])
def test_a_damaged_config_is_refused(text: str, folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").write_text(text)
    error = refusal(folder, tmp_path)
    assert isinstance(error, ModelInvalid)
    assert "config.json" in str(error)


def test_an_unreadable_config_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    assert isinstance(refusal(folder, tmp_path), FileUnreadable)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model_type": "roberta"}, "is a model of type 'roberta'"),
        ({"model_type": None}, "is a model of type None"),
        ({"model_type": ["bert"]}, "is a model of type"),
        ({"architectures": ["BertForMaskedLM"]}, "is a BertForMaskedLM, no question-answering model"),
        ({"architectures": "BertForMaskedLM"}, "is a BertForMaskedLM, no question-answering model"),
        ({"architectures": 7}, "is a 7, no question-answering model"),
        ({"max_position_embeddings": 63}, "takes at most 63 tokens, not 64"),
        ({"hidden_size": 65}, "cannot be loaded"),
        ({"hidden_size": "many"}, "cannot be loaded"),
        ({"num_hidden_layers": 3}, "lacks the weights bert.encoder.layer.2."),
        ({"vocab_size": 100}, "cannot be loaded"),
        ({"num_labels": 3}, "cannot be loaded"),
    ],
)
def test_an_unfit_config_is_refused(changed: dict[str, Any], said: str, folder: Path, tmp_path: Path) -> None:
    change_config(folder, **changed)
    error = refusal(folder, tmp_path)
    assert isinstance(error, ModelInvalid)
    assert said in str(error)


def test_a_masked_language_model_that_claims_to_answer_is_refused(tmp_path: Path) -> None:
    """transformers would give it a random head and only warn."""
    config = families.small_model("bert").config
    folder = tmp_path / "bert"
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    assert "is a BertForMaskedLM" in str(refusal(folder, tmp_path))
    shutil.rmtree(tmp_path / "target")
    change_config(folder, architectures=["BertForQuestionAnswering"])
    assert "lacks the weights qa_outputs.bias, qa_outputs.weight" in str(refusal(folder, tmp_path))


def test_a_head_of_three_logits_is_refused(tmp_path: Path) -> None:
    model = families.small_model("bert")
    model.config.num_labels = 3
    folder = tmp_path / "bert"
    transformers.BertForQuestionAnswering(model.config).save_pretrained(folder)
    assert "does not give a start and an end logit" in str(refusal(folder, tmp_path))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "has no weights"),
        ({"tf_model.h5": b"\x89HDF"}, "has no weights for PyTorch, only tf_model.h5"),
        ({"model.safetensors": b"version https://git-lfs.github.com/spec/v1\noid"}, "is a Git LFS pointer"),
        ({"model.safetensors": b""}, "is not a safetensors file, or was cut short"),
        ({"model.safetensors": b"\xff" * 100}, "is not a safetensors file, or was cut short"),
        ({"model.safetensors.index.json": b"{}"}, "cannot be loaded"),
        ({"model.safetensors.index.json": b'{"metadata":{},"weight_map":{"a":"model-1.safetensors"}}'}, "cannot be"),
        ({"pytorch_model.bin": b"PK\x03\x04"}, "cannot be loaded"),
        ({"pytorch_model.bin": b""}, "cannot be loaded"),
    ],
)
def test_missing_and_broken_weights_are_refused(
    files: dict[str, bytes], said: str, folder: Path, tmp_path: Path
) -> None:
    (folder / "model.safetensors").unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    error = refusal(folder, tmp_path)
    assert isinstance(error, ModelInvalid)
    assert said in str(error)


@pytest.mark.parametrize(
    ("share", "said"), [(0.001, "cut short in its header"), (0.5, "bytes of"), (0.999, "bytes of")]
)
def test_weights_that_were_cut_short_are_refused(share: float, said: str, folder: Path, tmp_path: Path) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert said in str(refusal(folder, tmp_path))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(value: float, folder: Path, tmp_path: Path) -> None:
    change_weights(folder, lambda weights: weights["qa_outputs.weight"].view(-1).__setitem__(5, value))
    assert "weight qa_outputs.weight holds NaN or infinity" in str(refusal(folder, tmp_path))


def test_weights_too_large_for_onnx_are_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "LARGEST_BYTES", 1000)
    assert "too much for ONNX" in str(refusal(folder, tmp_path))


def test_an_adapter_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "csarron/bert"}')
    assert "is an adapter" in str(refusal(folder, tmp_path))


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_in_weights_is_run(zipped: bool, folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    if zipped:
        torch.save({"a": Bomb(tmp_path / "run")}, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Bomb(tmp_path / "run")}))
    error = refusal(folder, tmp_path)
    assert "such code is not run" in str(error)
    assert not (tmp_path / "run").exists()


def test_no_code_beside_weights_is_run(folder: Path, tmp_path: Path) -> None:
    """Covers code of the model and of the tokenizer."""
    code = f"open({str(tmp_path / 'run')!r}, 'w')\nclass Mine: pass\n"
    (folder / "mine.py").write_text(code)
    change_config(folder, auto_map={"AutoModelForQuestionAnswering": "mine.Mine", "AutoConfig": "mine.Mine"})
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["mine.Mine", None]}}))
    (folder / "tokenizer.json").unlink()
    export_model(folder, tmp_path / "model.onnx", 64, quiet)
    with pytest.raises(ModelInvalid, match="has no tokenizer"):
        tokenizer_of(folder, tmp_path / "tokenizer")
    assert not (tmp_path / "run").exists()


def test_without_torch(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    error = refusal(folder, tmp_path)
    assert isinstance(error, ExtraMissing)
    assert error.exit_code == 4
    assert "pip install 'mbqa-bundle[export]'" in error.hint


def test_where_nothing_can_be_written(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(HostStorageFailed):
        export_model(folder, tmp_path / "missing" / "model.onnx", 64, quiet)


def test_an_export_that_answers_otherwise_is_not_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    error = refusal(folder, tmp_path)
    assert error.exit_code == 1
    assert "gives other logits" in str(error)
