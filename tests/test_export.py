"""Tests exported models: they answer like torch, in every family, and include their tokenizers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from bundler import resources  # noqa: E402
from bundler.cli import main  # noqa: E402
from bundler.errors import ModelInvalid  # noqa: E402
from bundler.model import export  # noqa: E402
from bundler.model.export import export_model  # noqa: E402
from bundler.model.sources import load_onnx, specs_of  # noqa: E402
from bundler.model.tokenizers import tokenizer_of  # noqa: E402
from bundler.resources import DEMO_QUESTIONS  # noqa: E402
from tests import families  # noqa: E402
from tests.conftest import quiet  # noqa: E402
from tests.families import FAMILIES, LENGTH, WORDS, change_config, change_weights  # noqa: E402

families.silence()

CLOSE = 1e-4
TOKENS = (LENGTH, 200)  # unpadded and padded


def largest_difference(model: Any, path: Path, length: int = LENGTH) -> float:
    """Returns the difference of torch's and ONNX Runtime's logits, on all positions, with and without padding."""
    worst = 0.0
    for tokens in (min(tokens, length) for tokens in TOKENS):
        inputs = families.feed(tokens, length=length)
        pairs = zip(families.torch_logits(model, inputs), families.onnx_logits(path, inputs), strict=True)
        worst = max(worst, *(float(abs(mine - theirs).max()) for mine, theirs in pairs))
    return worst


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Returns a transformers folder of each family."""
    root = tmp_path_factory.mktemp("folders")
    return {family: families.save_folder(families.small_model(family), root / family) for family in FAMILIES}


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    """Returns a BERT's folder, which tests may damage."""
    return Path(shutil.copytree(folders["bert"], tmp_path / "bert"))


# The torch models that the tests of graphs start from


@pytest.mark.slow
def test_the_demo_model_comes_back_to_torch() -> None:
    assert largest_difference(families.demo_model(), resources.DEMO_MODEL) < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("style", ["ours", "optimum", "optimum_inf"])
def test_traced_styles_give_the_logits_of_torch(style: str, tmp_path: Path) -> None:
    model = families.demo_model("sdpa" if style == "optimum_inf" else "eager")
    families.export(model, style, tmp_path / "model.onnx")
    assert largest_difference(model, tmp_path / "model.onnx") < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("style", ["newest_eager", "newest_sdpa", "newest_dynamic"])
def test_newest_styles_give_the_logits_of_torch(style: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    model = families.demo_model("eager" if style == "newest_eager" else "sdpa")
    families.export(model, style, tmp_path / "model.onnx")
    assert largest_difference(model, tmp_path / "model.onnx") < CLOSE


# What export_model writes


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_exported(family: str, folders: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    export_model(folders[family], out, LENGTH, quiet)
    model = families.small_model(family)
    assert largest_difference(model, out) < CLOSE
    assert tuple(spec.name for spec in specs_of(out, load_onnx(out))[0]) == families.inputs_of(model)
    graph = onnx.load(out)
    assert graph.opset_import[0].version == export.OPSET
    booleans = {"And", "Or", "Not", "Equal", "Where", "IsNaN", "GatherND"}
    assert not booleans & {node.op_type for node in graph.graph.node}
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_shorter_length_and_the_same_bytes_again(folders: dict[str, Path], tmp_path: Path) -> None:
    stages: list[str] = []
    for name in ("one.onnx", "two.onnx"):
        export_model(str(folders["albert"]), tmp_path / name, 128, lambda stage, *_: stages.append(stage))
    assert largest_difference(families.small_model("albert"), tmp_path / "one.onnx", 128) < CLOSE
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    assert stages[:2] == ["loading torch", "loading the model's weights"]


def test_half_precision_weights_and_pickles_are_taken(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    weights = {name: values.half() for name, values in load_file(folder / "model.safetensors").items()}
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    export_model(folder, tmp_path / "model.onnx", 64, quiet)
    assert largest_difference(families.small_model("bert"), tmp_path / "model.onnx", 64) < 0.02


def test_a_model_without_segments_takes_none(folder: Path, tmp_path: Path) -> None:
    change_config(folder, type_vocab_size=1)
    change_weights(
        folder,
        lambda w: w.update({n: w[n][:1].contiguous() for n in w if n.endswith("token_type_embeddings.weight")}),
    )
    export_model(folder, tmp_path / "model.onnx", 64, quiet)
    inputs, _ = specs_of(tmp_path / "model.onnx", load_onnx(tmp_path / "model.onnx"))
    assert [spec.name for spec in inputs] == ["input_ids", "attention_mask"]


def test_transformers_that_takes_no_additive_mask(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Imitates versions before 5: the model then makes its mask itself."""
    plain = export._wrapper

    def old(torch: Any, model: Any, names: Any, *, additive: bool) -> Any:
        if not additive:
            return plain(torch, model, names, additive=False)

        def refuse(*_: Any) -> None:
            raise ValueError("Wrong shape for input_ids")

        return refuse

    monkeypatch.setattr(export, "_wrapper", old)
    export_model(folder, tmp_path / "model.onnx", 64, quiet)
    assert largest_difference(families.small_model("bert"), tmp_path / "model.onnx", 64) < CLOSE


@pytest.mark.slow
def test_nothing_is_printed(folder: Path, tmp_path: Path) -> None:
    """Neither torch, transformers, the exporter nor ONNX Runtime prints; in a separate process, warnings are errors."""
    code = (
        "import sys; from pathlib import Path; from bundler.model.export import export_model\n"
        "export_model(sys.argv[1], Path(sys.argv[2]), 64, lambda *_: None)"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(folder), str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# From the folder to fixed point


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "least"), [("w8a8", 0.995), ("w8a16", 0.999), ("w16a16", 0.9999)])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_runs_in_fixed_point(
    family: str,
    precision: str,
    least: float,
    folders: dict[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Runs on the DSP's simulator and compares with the exported float32 model, as `--check` does.

    The windows are used for calibration too: models of random weights do not generalize from a few.
    """
    out = tmp_path / "bundle"
    how = ("--seq-len", "64", "--precision", precision, "--check", "--limit", "4", "--doc-stride", "16")
    same = ("--calibration", str(DEMO_QUESTIONS), "--calibration-windows", "200")
    assert main(["build", "--model", str(folders[family]), *how, *same, "--out", str(out), "--json"]) == 0
    made = json.loads(capfd.readouterr().out)["model"]
    assert made["check"]["windows"] >= 4
    assert made["check"]["correlation"] > least
    inputs = [spec["name"] for spec in json.loads((out / "manifest.json").read_text())["inputs"]]
    assert tuple(inputs) == families.inputs_of(families.small_model(family))


# Tokenizers


def test_a_tokenizer_is_taken_as_it_is(folders: dict[str, Path], tmp_path: Path) -> None:
    path = tokenizer_of(folders["bert"], tmp_path)
    assert path == folders["bert"] / "tokenizer.json"
    assert path.read_bytes() == resources.DEMO_TOKENIZER.read_bytes()


def test_a_tokenizer_too_large_for_its_model_is_refused(folder: Path, tmp_path: Path) -> None:
    change_config(folder, vocab_size=WORDS - 1)
    with pytest.raises(ModelInvalid, match=f"has {WORDS} pieces, and its model knows {WORDS - 1}"):
        tokenizer_of(folder, tmp_path)


def test_a_folder_without_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelInvalid, match="has no tokenizer"):
        tokenizer_of(folder, tmp_path)
