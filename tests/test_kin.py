"""Tests relatives of MobileBERT in fixed point without torch: from ONNX to the DSP's simulator, and inspect."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bundler.dlc.inspect import inspect_dlc
from bundler.model.make import Job, Precision, Recipe, make_dlc
from bundler.model.simulate import run_on_simulator
from bundler.model.sources import ModelSource, load_onnx, specs_of
from bundler.soc import known_socs
from tests import styles
from tests.conftest import quiet

pytestmark = pytest.mark.slow

FAMILIES: dict[str, dict[str, Any]] = {
    "mobilebert": {"mask": "optimum"},
    "bert": {"mask": "where_flipped", "norm": "layer"},
    "distilbert": {"mask": "where_scores", "norm": "layer", "segments": False},
    "electra": {"mask": "gathered", "norm": "layer"},
    "albert": {"mask": "ours", "norm": "layer_tanh"},
}
LEAST: dict[Precision, float] = {"fp16": 0.99999, "w8a8": 0.995, "w8a16": 0.999, "w16a16": 0.9999}
TOKENS = (48, 40, 30, 12)
CHIPS = {"fp16": "SM8450", "w8a8": "SM7325", "w8a16": "SM7475", "w16a16": "SM8635"}
"""The oldest kind of chip for each precision: those for fixed point compute no float16, not even in one operator."""


@pytest.mark.parametrize("precision", LEAST)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_at_every_precision(family: str, precision: Precision, tmp_path: Path) -> None:
    path, dlc = tmp_path / "model.onnx", tmp_path / "model.dlc"
    model = styles.styled(**FAMILIES[family])
    onnx.save(model, path)
    source = ModelSource(family, path, path, *specs_of(path, load_onnx(path), styles.LENGTH))
    feeds = [{spec.name: styles.feed(tokens)[spec.name] for spec in source.inputs} for tokens in TOKENS]
    assert len(source.inputs) == (2 if family == "distilbert" else 3)
    recipe = Recipe(precision, converter="built-in")
    job = Job(source, recipe, known_socs()[CHIPS[precision]], None, feeds, tmp_path, tmp_path / "log")
    make_dlc(job, dlc, quiet)
    exact, found = [], []
    for feed, logits in zip(feeds, run_on_simulator(dlc, job.soc, feeds, quiet), strict=True):
        real = feed["attention_mask"][0] == 1
        exact += [values[0][real] for values in styles.logits(model, feed)]
        found += [logits[name][0][real] for name in styles.OUTPUTS]
    assert np.corrcoef(np.concatenate(exact), np.concatenate(found))[0, 1] > LEAST[precision]
    report = inspect_dlc(dlc)
    assert {tensor.spec for tensor in report.inputs} == set(source.inputs)
    assert {(tensor.name, tensor.shape) for tensor in report.outputs} == {(s.name, s.shape) for s in source.outputs}
    assert report.precision == precision
    floats = {op.type for op in report.operators if {"float32", "float16"} & set(op.dtypes)}
    assert precision == "fp16" or floats <= {"Cast"}  # the mask's, from integers
