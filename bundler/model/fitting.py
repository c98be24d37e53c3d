"""Fits a model's graph to the HTP, checks that its logits stay the same, and caches it for later builds."""

import hashlib
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from bundler.dlc.cache import cached, keep, note, noted
from bundler.errors import ModelInvalid
from bundler.model.calibrate import keep_token_axes, measure_mask, token_axes
from bundler.model.graph import Feed, FitGraph, fit_for_htp, largest_difference
from bundler.model.mask import set_mask_size
from bundler.model.sources import ModelSource, first_line, load_onnx

COMPARED_WINDOWS = 2
TOLERANCE = 1e-4  # largest change of a logit by rewriting, relative to the largest logit if that exceeds 1


def releases() -> tuple[str, ...]:
    """Returns the versions of the packages that determine a graph and its DLC."""
    return tuple(map(importlib.metadata.version, ("mbqa-bundle", "onnxruntime", "onnxruntime-qnn")))


def model_key(source: ModelSource, *facts: object) -> str:
    """Returns the SHA-256 of the model, its number of tokens, these facts and the package versions."""
    digest = hashlib.sha256(repr((facts, source.length, releases())).encode())
    digest.update(load_onnx(source.path).SerializeToString(deterministic=True))
    return digest.hexdigest()


def fitted(source: ModelSource, feeds: Sequence[Feed], *, measure: bool = False) -> FitGraph:
    """Returns the source's graph rewritten for the HTP, after checking that the first windows' logits are unchanged.

    measure: sets the mask's penalty by the windows' scores; a float model can keep the exporter's large one.

    Raises:
        ModelInvalid
    """
    original = load_onnx(source.path)
    fit = fit_for_htp(original, source.length, source.name)
    try:
        if measure:
            set_mask_size(fit.model, measure_mask(fit, feeds))
        difference, largest = largest_difference(original, fit, feeds[:COMPARED_WINDOWS])
    except Exception as failure:  # ONNX Runtime's errors have no common base
        what = f"does not run with {source.length} tokens: {first_line(failure)}"
        hint = (
            "Take the tokenizer that belongs to it (--tokenizer), and a length that it has positions for (--seq-len)."
        )
        raise ModelInvalid(source.name, what, hint) from failure
    if not np.isfinite(largest):
        raise ModelInvalid(source.name, "gives logits that are not finite", "Take an undamaged model.")
    if not difference <= TOLERANCE * max(1.0, largest):
        what = f"rewritten for the HTP its logits differ by {difference:.2g} (the largest is {largest:.3g})"
        raise ModelInvalid(source.name, what, "Please report this model's exporter as a defect of mbqa-bundle.")
    return fit


def fitted_before(source: ModelSource, feeds: Sequence[Feed], work: Path) -> FitGraph:
    """Returns the fitted graph of an earlier build, which checked its logits; fits and caches it if there is none.

    Raises:
        ModelInvalid
    """
    key = model_key(source, "fitted")
    told = noted(key)
    try:
        masked, axes = told["masked"], {name: tuple(places) for name, places in told["axes"].items()}
        known = cached(key)
    except (TypeError, KeyError, AttributeError):
        known = None
    if known is not None:
        fit = FitGraph(source.name, onnx.load(known), tuple(masked))
        keep_token_axes(fit, axes)
        return fit
    fit = fitted(source, feeds)
    path = work / "fitted.onnx"
    onnx.save(fit.model, path)
    keep(key, path)
    note(key, {"masked": fit.masked_scores, "axes": token_axes(fit)})
    return fit
