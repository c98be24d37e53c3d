"""Makes a model's DLC at a given precision: fits the graph, calibrates, quantizes, converts and prepares it."""

import hashlib
import importlib.metadata
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnx

from bundler.dlc.cache import cached, keep, note, noted, sha256_of
from bundler.dlc.qnn import ELSEWHERE, library_folder
from bundler.errors import EncodingsInvalid, NoConverter, SocUnfit
from bundler.model.calibrate import Calibration, Method, calibrate
from bundler.model.compensate import compensated
from bundler.model.convert import onnx_to_dlc
from bundler.model.encodings import Given, encodings_for, encodings_text
from bundler.model.equalize import Equalized, equalize
from bundler.model.fitting import fitted, fitted_before, model_key, releases
from bundler.model.fixed_point import Encodings, FixedWeights
from bundler.model.graph import Feed, FitGraph
from bundler.model.half import check_range, in_float16
from bundler.model.mask import SIZE
from bundler.model.mixed import choose_wide
from bundler.model.onnx_graph import Net
from bundler.model.quantize import QuantizedModel, Scheme, quantize
from bundler.model.rescale import rescaled
from bundler.model.residual import loud_operators
from bundler.model.sdk import CONVERTERS, Sdk
from bundler.model.simulate import check_simulated, prepare_context
from bundler.model.sources import ModelSource, load_onnx
from bundler.model.split import splitting_pays
from bundler.model.vendor import convert_with_sdk
from bundler.model.vendor_plan import BITS, VendorJob
from bundler.platforms import this_platform
from bundler.soc import Soc, judge_for
from bundler.types import Progress

Precision = Literal["fp32", "fp16", "w8a16", "w16a16", "w8a8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Converter = Literal["built-in", "sdk"]
RANGED_WINDOWS = 8  # whose values are compared with float16's range


@dataclass(frozen=True)
class Recipe:
    """How a model becomes a DLC. Method, per_channel and mixed apply to quantized precisions, equalize also to fp16.

    per_channel: gives weights that benefit a scale for each channel; None measures whether that pays (split.py).
    converter: None selects the SDK's if the SDK has one, else the one of the onnxruntime-qnn wheel.
    """

    precision: Precision = "fp16"
    method: Method = "min-max"
    per_channel: bool | None = None
    mixed: bool = False
    prepare: bool = False
    converter: Converter | None = None
    equalize: bool = True

    @property
    def quantized(self) -> bool:
        return self.precision in BITS

    @property
    def scheme(self) -> Scheme | None:
        """Returns the bits of a quantized precision."""
        return Scheme(*BITS[self.precision], per_channel=bool(self.per_channel)) if self.quantized else None


@dataclass(frozen=True)
class Job:
    """The inputs of make_dlc.

    feeds: windows of int32 (1, length) arrays; work: a folder for drafts; log: the file for the SDK tools' output;
    cache: whether to reuse a DLC of the same graph; given: encodings to use instead of computing them.
    """

    source: ModelSource
    recipe: Recipe
    soc: Soc
    sdk: Sdk | None
    feeds: Sequence[Feed]
    work: Path
    log: Path
    cache: bool = False
    given: Given | None = None


@dataclass(frozen=True)
class Made:
    """The result of make_dlc. `graph`: the float32 model of the DLC (None: reused from the cache); `wide`: the number
    of operators with 16 bits instead of 8; `mask_size`: what the attention mask subtracts from the score of padding;
    `exponents`: the scales of the DLC's classes of channels (rescale.py), none if unscaled; `per_channel`: whether
    weights have a scale for each channel; sizes are in bytes; `remark`: a warning for the user, or empty; `encodings`:
    those of a quantized model."""

    graph: FitGraph | None
    converter: str
    float_bytes: int
    dlc_bytes: int
    mask_size: float | None
    wide: int
    exponents: tuple[int, ...]
    per_channel: bool = False
    remark: str = ""
    encodings: Encodings | None = None


def check_converter(recipe: Recipe, sdk: Sdk | None) -> None:
    """Fails early if nothing on this machine can convert a model.

    Raises:
        NoConverter
    """
    if not by_sdk_tools(recipe, sdk):
        library_folder()
    elif not this_platform().runs_sdk_tools:
        raise NoConverter(f"the SDK's converters run on Linux, and this is {this_platform()}", ELSEWHERE)


def make_dlc(job: Job, dlc: Path, progress: Progress) -> Made:
    """Writes `dlc` and, if the recipe asks for it, the version prepared for the chip beside it.

    Raises:
        ModelInvalid, OperatorUnsupported, VendorToolFailed: the model is refused.
        NoConverter, SdkIncomplete, SdkTooOld, VendorToolUnusable: no tools for it here; UsageError, SocUnfit
    """
    if by_sdk_tools(job.recipe, job.sdk):
        return _by_sdk(job, dlc, progress)
    key = _key(job) if job.cache and not job.recipe.prepare and job.given is None else ""
    if key and (known := _made_before(key, dlc)):
        return known
    fit = fit_checked(job, progress)
    made = write_dlc(job, fit, round_graph(job, fit, progress), dlc, progress)
    if key:
        facts = vars(replace(made, graph=None, encodings=None))  # a cached result has neither
        note(key, {"content": sha256_of(dlc), "made": facts})
    return made


def _key(job: Job) -> str:
    """Returns a DLC's cache key: of model, recipe, chip, versions and, except for float32, calibration windows."""
    digest = hashlib.sha256(model_key(job.source, job.recipe, job.soc).encode())
    for feed in job.feeds if job.recipe.precision != "fp32" else ():
        for name, values in sorted(feed.items()):
            digest.update(name.encode() + values.tobytes())
    return digest.hexdigest()


def _made_before(key: str, dlc: Path) -> Made | None:
    """Returns the cached result for this key after copying its DLC to `dlc`; None if it is no longer in the cache."""
    told = noted(key)
    try:
        made = Made(**{**told["made"], "exponents": tuple(told["made"]["exponents"])})
        source = cached(content=told["content"])
    except (TypeError, KeyError):
        return None
    if source is None:
        return None
    shutil.copyfile(source, dlc)
    return made


def fit_checked(job: Job, progress: Progress) -> FitGraph:
    """Returns the source's graph fitted to the HTP, with all operators checked; for the built-in converter.

    Raises:
        ModelInvalid, OperatorUnsupported, SocUnfit, NoConverter
    """
    if job.recipe.prepare:
        check_simulated(job.soc, job.recipe.precision)
    _check_mixed(job.recipe, job.soc)
    progress("fitting the model's graph to the HTP", 0, None)
    if not job.recipe.quantized:
        return fitted_before(job.source, job.feeds, job.work) if job.cache else fitted(job.source, job.feeds)
    fit = fitted(job.source, job.feeds, measure=True)
    progress("checking every operator against the HTP", 0, None)
    _convert(job, fit.model, job.work / "float.dlc", "fp32")  # fails before the long part begins
    return fit


@dataclass(frozen=True)
class Rounded:
    """A graph at a precision, before its conversion to a DLC. `scaled`: the graph before rounding; `wide`: the number
    of its operators with 16 bits; `fixed`: the weights that are not rounded to nearest."""

    scaled: Equalized
    graph: QuantizedModel
    wide: int = 0
    fixed: FixedWeights = field(default_factory=FixedWeights)


def round_graph(job: Job, fit: FitGraph, progress: Progress) -> Rounded:
    """Returns the fitted graph at the recipe's precision.

    Raises:
        ModelInvalid, EncodingsInvalid
    """
    scaled = _equalized(job, fit, progress)
    recipe, scheme = job.recipe, job.recipe.scheme
    if scheme is None:
        model = in_float16(scaled.fit) if recipe.precision == "fp16" else scaled.fit.model
        return Rounded(scaled, QuantizedModel(model))
    progress(f"calibrating on {len(job.feeds)} windows", 0, None)
    calibration = calibrate(scaled.fit, job.feeds, recipe.method)
    if job.given is not None:
        scheme = replace(scheme, given=encodings_for(scaled.fit, job.given, Net(load_onnx(job.source.path))))
    else:
        scheme = _measured_scheme(job, scaled.fit, calibration, scheme, progress)
    fixed = compensated(scaled.fit, calibration, scheme, job.feeds, progress)
    return Rounded(scaled, quantize(scaled.fit, calibration, scheme, fixed), len(scheme.wide), fixed)


def _measured_scheme(job: Job, fit: FitGraph, calibration: Calibration, scheme: Scheme, progress: Progress) -> Scheme:
    """Returns the scheme with per-channel scales and 16-bit operators where measurements show that they pay."""
    if job.recipe.per_channel is None and job.soc.has_htp:  # other runtimes may lack such weights
        progress("comparing scales of the model's weights", 0, None)
        scheme = replace(scheme, per_channel=splitting_pays(fit, calibration, scheme, job.feeds))
    if scheme.activation_bits == 8 and job.soc.has_htp:
        scheme = replace(scheme, wide=loud_operators(fit, calibration, scheme, job.feeds, progress))
    if job.recipe.mixed:
        scheme = replace(scheme, wide=choose_wide(fit, calibration, scheme, job.feeds, progress))
    return scheme


def write_dlc(job: Job, fit: FitGraph, rounded: Rounded, dlc: Path, progress: Progress) -> Made:
    """Writes `dlc` with the libraries of the onnxruntime-qnn wheel.

    Raises:
        ModelInvalid, OperatorUnsupported, NoConverter
    """
    progress("converting the model to a DLC", 0, None)
    _convert(job, rounded.graph.model, dlc, job.recipe.precision)
    if job.recipe.prepare:
        progress(f"preparing the DLC for {job.soc.name}", 0, None)
        prepare_context(dlc, job.soc)
    tool = f"onnxruntime-qnn {importlib.metadata.version('onnxruntime-qnn')}"
    return _made(job, fit, rounded, tool, dlc)


def _made(job: Job, fit: FitGraph, rounded: Rounded, tool: str, dlc: Path) -> Made:
    scaled, encodings = rounded.scaled, rounded.graph.encodings
    remark = check_range(scaled.fit, job.feeds[:RANGED_WINDOWS]) if job.recipe.precision == "fp16" else ""
    constants = Net(fit.model).constants
    return Made(
        fit,
        tool,
        sum(value.nbytes for value in constants.values() if value.dtype == np.float32),
        dlc.stat().st_size,
        round(float(constants[SIZE]), 3) if SIZE in constants else None,
        rounded.wide,
        scaled.exponents,
        encodings is not None and any(each.scale.ndim for each in encodings.weights.values()),
        remark,
        encodings,
    )


def _equalized(job: Job, fit: FitGraph, progress: Progress) -> Equalized:
    """Returns the graph to round."""
    if job.given is not None:
        return _as_given(job.given, fit)
    if job.recipe.precision == "fp32" or not job.recipe.equalize:
        return Equalized(fit)
    return equalize(fit, job.feeds, job.recipe.scheme, progress)


def _as_given(given: Given, fit: FitGraph) -> Equalized:
    """Returns the graph with the channel scales that the encodings were made for."""
    if not given.exponents:
        return Equalized(fit)
    try:
        return Equalized(rescaled(fit, given.exponents), given.exponents)
    except ValueError as other:
        raise EncodingsInvalid(given.path, f"is of another model than {fit.name}: {other}") from other


def by_sdk_tools(recipe: Recipe, sdk: Sdk | None) -> bool:
    default = "sdk" if sdk is not None and any(sdk.tool(name) for name in CONVERTERS) else "built-in"
    return (recipe.converter or default) == "sdk"


def _check_mixed(recipe: Recipe, soc: Soc) -> None:
    if recipe.mixed and recipe.precision == "w8a16" and soc.has_htp and not soc.takes("w16a16"):
        what = "its HTP takes no weights of 16 bits, which --mixed gives some operators"
        raise SocUnfit(soc.name, soc.market, what, "Leave --mixed out.")


def _convert(job: Job, graph: onnx.ModelProto, dlc: Path, precision: Precision) -> None:
    """Writes the DLC of a graph, or copies it from the cache: the same graph gives the same DLC."""
    judge, raw = judge_for(job.soc, precision), graph.SerializeToString(deterministic=True)
    key = hashlib.sha256(repr((judge.qnn_id, judge.hexagon, releases())).encode() + raw).hexdigest()
    if job.cache and (known := cached(key)):
        shutil.copyfile(known, dlc)
        return
    path = job.work / "graph.onnx"
    path.write_bytes(raw)
    onnx_to_dlc(path, dlc, judge, name=job.source.name)
    if job.cache:
        keep(key, dlc)


def _by_sdk(job: Job, dlc: Path, progress: Progress) -> Made:
    """Makes the DLC with the SDK's tools. They calibrate what the encodings leave open on the same windows."""
    if job.sdk is None:
        raise NoConverter("--converter sdk, and there is no SDK")
    _check_mixed(job.recipe, job.soc)
    progress("fitting the model's graph to the HTP", 0, None)
    fit = fitted(job.source, job.feeds, measure=job.recipe.quantized)
    rounded = round_graph(job, fit, progress)
    scaled, encodings = rounded.scaled, None
    if rounded.graph.encodings is not None:
        encodings = job.work / "encodings.json"
        encodings.write_text(encodings_text(rounded.graph.encodings), encoding="utf-8", newline="\n")
    progress(f"converting with {job.sdk.name}", 0, None)
    path = job.work / "fitted.onnx"
    path.write_bytes(_with_weights(scaled.fit.model, rounded.fixed).SerializeToString())
    wish = VendorJob(
        model=path,
        inputs=scaled.fit.inputs,
        outputs=scaled.fit.outputs,
        precision=job.recipe.precision,
        feeds=job.feeds,
        calibration=job.recipe.method,
        per_channel=bool(job.recipe.per_channel),
        soc=job.soc,
        prepare=job.recipe.prepare,
        encodings=encodings,
    )
    convert_with_sdk(job.sdk, wish, dlc, job.log)
    return _made(job, fit, rounded, job.sdk.name, dlc)


def _with_weights(model: onnx.ModelProto, fixed: FixedWeights) -> onnx.ModelProto:
    """Returns the float32 model with the fixed weights, which rounding to nearest keeps, and with their biases."""
    net = Net(model)
    net.constants.update({name: each.reals for name, each in fixed.weights.items()} | dict(fixed.biases))
    return net.to_model()
