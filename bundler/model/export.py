"""Exports a transformers question-answering model to ONNX, in the form that Qualcomm's HTP takes."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundler.dlc.onnx_sessions import cpu_session
from bundler.errors import BundlerError, HostStorageFailed
from bundler.model.adapt import KNOWN_INPUTS
from bundler.model.hub import local_folder
from bundler.model.pretrained import check_config, import_libraries, load_model, read_config
from bundler.types import OUTPUTS, Progress

OPSET = 17
MASK = -10000.0  # far below any attention score, but representable in float16
TOLERANCE = 1e-3  # of logits, relative to the largest one


def export_model(source: str | Path, out: Path, length: int, progress: Progress) -> None:
    """Writes `out`, with the model's int32 inputs (1, length) and start_logits, end_logits float32 (1, length).

    `source` is a folder as transformers writes it, or the name of a model on huggingface.co. Runs none of the model's
    own code. Writes nothing unless the ONNX gives the same logits as torch.

    Raises:
        ModelInvalid, FileUnreadable: no question-answering model of a known family, or a damaged one; ExtraMissing,
        HubUnreachable, HostStorageFailed.
    """
    folder = local_folder(source, progress, weights=False)
    check_config(folder, read_config(folder), length)
    progress("loading torch", 0, None)
    torch, _ = import_libraries()
    folder = local_folder(source, progress)  # downloads the weights last, after all other checks
    progress("loading the model's weights", 0, None)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the libraries warn about their own future versions
        model = load_model(folder)
        names = _inputs(model)
        sample = _sample(torch, names, length, model.config.vocab_size)
        expected = [values.numpy() for values in _wrapper(torch, model, names, additive=False)(*sample)]
        wrapper = _best_wrapper(torch, model, names, sample, expected)
        progress("exporting the model to ONNX", 0, None)
        draft = out.with_name(f".{out.name}.{os.getpid()}")
        try:
            _write(torch, wrapper, sample, names, draft)
            progress("comparing the ONNX with the model", 0, None)
            _compare(str(source), draft, dict(zip(names, sample, strict=True)), expected)
            draft.replace(out)
        except OSError as error:
            raise HostStorageFailed(out, error.strerror or str(error)) from error
        finally:
            draft.unlink(missing_ok=True)


def _inputs(model: Any) -> tuple[str, ...]:
    """Returns the inputs of the model's forward, in the usual order; omits segments if the model has only one type."""
    import inspect

    taken = inspect.signature(model.forward).parameters
    segments = getattr(model.config, "type_vocab_size", 2) > 1
    return tuple(name for name in KNOWN_INPUTS if name in taken and (segments or name != "token_type_ids"))


def _sample(torch: Any, names: Sequence[str], length: int, words: int) -> tuple[Any, ...]:
    """Returns int32 (1, length) values for each input: random tokens, two segments, a quarter of padding."""
    mask = np.arange(length) < max(1, length * 3 // 4)
    values = {
        "input_ids": np.random.default_rng(0).integers(0, words, length) * mask,
        "attention_mask": mask,
        "token_type_ids": (np.arange(length) >= length // 8) * mask,
    }
    return tuple(torch.from_numpy(values[name].astype(np.int32)[None]) for name in names)


def _wrapper(torch: Any, model: Any, names: Sequence[str], *, additive: bool) -> Any:
    """Returns the model as a module that takes its inputs by position and returns the two logits.

    additive: the graph itself makes a float32 mask (1, 1, 1, length) of 0 and MASK, which avoids boolean operators.
    """

    class Wrapper(torch.nn.Module):  # type: ignore[misc]  # torch is known at run time only
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *values: Any) -> tuple[Any, Any]:
            named = dict(zip(names, values, strict=True))
            if additive:
                absent = 1.0 - named["attention_mask"].to(torch.float32)
                named["attention_mask"] = absent[:, None, None, :] * MASK
            found = self.model(**named, return_dict=True)
            return found.start_logits, found.end_logits

    return Wrapper().eval()  # otherwise the exporter would leave the model in training mode


def _best_wrapper(torch: Any, model: Any, names: Sequence[str], sample: Sequence[Any], expected: Sequence[Any]) -> Any:
    """Returns the wrapper with an additive mask if this transformers takes one (5 and later do), else one without."""
    wrapper = _wrapper(torch, model, names, additive=True)
    try:
        found = [values.numpy() for values in wrapper(*sample)]
    except (ValueError, RuntimeError):
        found = []
    same = bool(found) and _difference(found, expected) <= TOLERANCE
    return wrapper if same else _wrapper(torch, model, names, additive=False)


def _write(torch: Any, wrapper: Any, sample: Sequence[Any], names: Sequence[str], path: Path) -> None:
    """Exports by tracing, which needs no further package. The HTP was tested with graphs of this exporter."""
    torch.onnx.export(
        wrapper, tuple(sample), path, input_names=list(names), output_names=list(OUTPUTS), opset_version=OPSET,
        dynamo=False,
    )  # fmt: skip


def _compare(source: str, path: Path, sample: dict[str, Any], expected: Sequence[Any]) -> None:
    session = cpu_session(path)
    found = session.run(list(OUTPUTS), {name: values.numpy() for name, values in sample.items()})
    difference = _difference(found, expected)
    if not difference <= TOLERANCE:
        raise BundlerError(f"{source}: the exported ONNX gives other logits than the model: {difference:.2g} apart")


def _difference(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """Returns the largest difference, relative to the largest logit if that is above 1."""
    scale = max(1.0, *(float(np.abs(values).max()) for values in expected))
    return max(float(np.abs(mine - theirs).max()) for mine, theirs in zip(found, expected, strict=True)) / scale
