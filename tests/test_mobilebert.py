"""Tests the hand-written MobileBERT of the benchmarks against transformers' MobileBERT. Needs torch."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import numpy_helper

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from benchmarks.mobilebert import INPUTS, OUTPUTS, Size, random_mobilebert  # noqa: E402

LENGTH, WORDS, LAYERS = 48, 100, 2


def weights_for(model: Any, stored: dict[str, Any]) -> dict[str, Any]:
    """Returns the model's state dict; MatMul has the weights of Linear layers transposed."""
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    return {
        name: torch.from_numpy(np.array(stored[name].T if name in linear else stored[name]))
        for name in model.state_dict()
    }


def test_the_same_weights_give_the_same_logits() -> None:
    made = random_mobilebert(Size(words=WORDS, layers=LAYERS), length=LENGTH)
    config = transformers.MobileBertConfig(vocab_size=WORDS, num_hidden_layers=LAYERS)
    model = transformers.MobileBertForQuestionAnswering(config).eval()
    model.load_state_dict(weights_for(model, {w.name: numpy_helper.to_array(w) for w in made.graph.initializer}))
    places, random = np.arange(LENGTH)[None], np.random.default_rng(0)
    ids = random.integers(0, WORDS, (1, LENGTH))
    feed = dict(zip(INPUTS, (ids, places < LENGTH - 8, places > 9), strict=True))
    with torch.no_grad():
        expected = model(**{name: torch.from_numpy(values.astype(np.int64)) for name, values in feed.items()})
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(list(OUTPUTS), {name: values.astype(np.int32) for name, values in feed.items()})
    for logits, theirs in zip(found, (expected.start_logits, expected.end_logits), strict=True):
        np.testing.assert_allclose(logits, theirs.numpy(), atol=1e-4)
