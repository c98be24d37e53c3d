"""Builds a bundle from questions and a model."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from bundler import __version__, layout
from bundler.bundle import (
    SCHEMA,
    Bundle,
    CalibrationRecord,
    EqualizationRecord,
    Manifest,
    ModelRecord,
    Trial,
    Window,
    drafting,
    file_entries,
    read_bundle,
    read_windows,
    write_manifest,
)
from bundler.bundle.inputs import kept_questions, write_windows
from bundler.engines import ENGINES
from bundler.errors import ModelInvalid, UsageError
from bundler.evaluation.check import Judge, Simulator
from bundler.evaluation.ladder import choose_precision
from bundler.files import writing
from bundler.model.calibration_sample import Sample
from bundler.model.encodings import Given, encodings_text, read_encodings
from bundler.model.make import PRECISIONS, Job, Made, Recipe, by_sdk_tools, check_converter, fit_checked, make_dlc
from bundler.model.origin import origin_of
from bundler.model.sdk import Sdk, device_parts, open_sdk
from bundler.model.simulate import check_simulated, prepare_context, run_on_simulator
from bundler.model.sources import ModelSource, keep_tokenizer, open_model
from bundler.qa.features import OVERLAP, Windower, load_tokenizer
from bundler.qa.spans import MAX_ANSWER_TOKENS
from bundler.qa.warnings import Notes
from bundler.resources import templates
from bundler.runs.reference import keep_reference
from bundler.soc import DEFAULT, Soc, known_socs
from bundler.types import Feature, Progress, Questions, silent

CALIBRATION_WINDOWS = 32
SPARE_ROWS = 128  # embeddings are padded to a number that suits the hardware
MANY_UNKNOWN = 0.1  # share of a text's tokens; BERT's tokenizer knows all but one in a thousand of English text


@dataclass(frozen=True, kw_only=True)
class CalibrationRequest:
    """Windows to calibrate on: a sample of those of `questions`, or of the bundle's windows if it is None."""

    questions: Questions | None = None
    name: str = "the bundle's questions"
    windows: int = CALIBRATION_WINDOWS
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """The parts and settings of a bundle. `model`, `names`: as for `open_model`; `soc` None: any chip the SDK knows.

    check: compare the DLC, run by the DSP's simulator, with float32. keep: choose the smallest precision that keeps
    this share of float32's answers, and ignore the recipe's. cluster: the address of a Dask scheduler whose workers
    simulate for these two; with `insecure` it may be on another computer without TLS. cache: reuse the DLC of a graph
    that was converted before. encodings, save_encodings: files of the quantization encodings, to read and to write.

    The questions are streamed, and streamed again if the DLC is compared.
    """

    questions: Questions
    model: str | Path
    tokenizer: Path | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    soc: Soc | None = None
    sdk: Path | None = None
    overlap: int = OVERLAP
    length: int | None = None
    max_answer_tokens: int = MAX_ANSWER_TOKENS
    recipe: Recipe = field(default_factory=Recipe)
    calibration: CalibrationRequest = field(default_factory=CalibrationRequest)
    check: bool = False
    keep: float | None = None
    cluster: str | None = None
    insecure: bool = False
    cache: bool = True
    encodings: Path | None = None
    save_encodings: Path | None = None

    @property
    def judged(self) -> bool:
        return self.check or self.keep is not None

    @property
    def chip(self) -> Soc:
        """Returns the chip whose HTP the operators are checked for."""
        return self.soc or known_socs()[DEFAULT]


def build_bundle(
    request: BuildRequest,
    out: Path,
    progress: Progress = silent,
    notes: Notes | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Writes the bundle `out`; a failure leaves nothing of it behind. Adds warnings to `notes`.

    tell: takes messages that are of interest before the end.

    Raises:
        InputError: questions or model refused; MissingHere: no converter, no room; SocUnfit: the chip is unsuitable;
        ClusterUnusable
    """
    notes = notes or Notes()
    simulate = _simulator(request, tell)
    if request.check and request.keep is None:
        check_simulated(request.chip, request.recipe.precision)
    given = read_encodings(request.encodings) if request.encodings is not None else None
    sdk = open_sdk(request.sdk) if request.sdk is not None else None
    parts = device_parts(sdk, request.soc) if sdk is not None else {}
    check_converter(request.recipe, sdk)
    if request.keep is not None and by_sdk_tools(request.recipe, sdk):
        raise UsageError("--precision auto does not go with the SDK's converter", "Add --converter built-in.")
    with tempfile.TemporaryDirectory(prefix="mbqa-build-") as folder, drafting(out) as draft:
        work, device, host = Path(folder), draft / layout.DEVICE, draft / layout.HOST
        for made in (device, host):
            made.mkdir()
        source = open_model(request.model, request.tokenizer, request.length, work, progress, request.names)
        for line in source.notes:
            notes.remark(line)
        keep_tokenizer(source, host / layout.TOKENIZER)
        tokenizer = load_tokenizer(host / layout.TOKENIZER)
        _compare_vocabulary(tokenizer, source, notes)
        windower = Windower(tokenizer, source.length, request.overlap, notes)
        sample = Sample(request.calibration.windows * (2 if request.judged else 1), request.calibration.seed)
        progress("cutting questions into windows", 0, None)
        made_windows = windower.windows(kept_questions(request.questions, host))
        features = sample.watch(_known_tokens(made_windows, source))
        inputs, outputs = ([spec.name for spec in side] for side in (source.inputs, source.outputs))
        write_windows(features, inputs, draft)
        windows = read_windows(host, inputs, outputs)
        windows_for = _divided(request, sample.features, windower)
        looked_at = {CalibrationRequest.name: sample.features, request.calibration.name: windows_for.calibration}
        for name, seen in looked_at.items():
            _note_unknown(tokenizer, name, seen, notes)
        record = _make_model(request, sdk, given, source, windows_for, simulate, draft, work, out, progress, notes)
        progress("computing the float32 reference", 0, None)
        if keep_reference(source, draft, windows):
            notes.remark("the model gives the same logit to every token of the questions: its answers mean nothing")
        for name, part in parts.items():
            (device / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(part, device / name)
        _write_scripts(device, source, windows)
        progress("checking the bundle", 0, None)
        manifest = Manifest(
            schema=SCHEMA,
            made_by=f"mbqa-bundle {__version__}",
            model=record,
            inputs=source.inputs,
            outputs=source.outputs,
            max_answer_tokens=request.max_answer_tokens,
            may_be_unanswerable=request.questions.may_be_unanswerable,
            windows=windows,
            files=file_entries(draft, besides=device / layout.INPUTS),
            sdk=(sdk.version if sdk is not None else None) or "",
            doc_stride=request.overlap,
        )
        write_manifest(draft, manifest)
    return read_bundle(out)


def _simulator(request: BuildRequest, tell: Callable[[str], None]) -> Simulator:
    """Returns the simulator that judges the DLC. Raises: ExtraMissing, ClusterUnusable"""
    if request.cluster is None or not request.judged:
        return run_on_simulator
    from bundler.scheduler.cluster import CONNECT_S, check_address, connect, run_on_cluster

    check_address(request.cluster, insecure=request.insecure)
    connect(request.cluster, CONNECT_S).close()  # fails before the long part begins
    return partial(run_on_cluster, address=request.cluster, insecure=request.insecure, tell=tell)


def _compare_vocabulary(tokenizer: Tokenizer, source: ModelSource, notes: Notes) -> None:
    """Notes it if the tokenizer's ids do not fit the model's embedding: it may be another model's tokenizer."""
    rows, largest = source.embedding_rows, max(tokenizer.get_vocab().values(), default=0)
    if rows is not None and not rows - SPARE_ROWS <= largest + 1 <= rows:
        what = f"the tokenizer has ids up to {largest:,}, and the model has {rows:,} embeddings"
        notes.remark(f"{what}: it may be another model's")


def _note_unknown(tokenizer: Tokenizer, name: str, features: Sequence[Feature], notes: Notes) -> None:
    """Notes it if many tokens of the text are unknown: answers and activation ranges then mean little."""
    unknown = [tokenizer.token_to_id(word) for word in ("[UNK]", "<unk>")]
    tokens = [feature.inputs["input_ids"][feature.inputs["attention_mask"] == 1] for feature in features]
    share = float(np.isin(np.concatenate(tokens), [each for each in unknown if each is not None]).mean())
    if share > MANY_UNKNOWN:
        notes.remark(f"the tokenizer knows no word for {share:.0%} of {name}: give text in the model's language")


def _known_tokens(features: Iterator[Feature], source: ModelSource) -> Iterator[Feature]:
    """Yields the windows unchanged.

    Raises:
        ModelInvalid: a window has a token without an embedding in the model.
    """
    rows = source.embedding_rows
    for feature in features:
        largest = int(feature.inputs["input_ids"].max())
        if rows is not None and largest >= rows:
            what = f"gives the token id {largest}, and the model {source.name} has ids below {rows} only"
            raise ModelInvalid(source.tokenizer, what, "Give the tokenizer of this model with --tokenizer.")
        yield feature


@dataclass(frozen=True)
class Windows:
    """Windows to calibrate on, and windows to judge by; `shared` counts windows in both."""

    calibration: list[Feature]
    judged: list[Feature]
    shared: int


def _divided(request: BuildRequest, sample: list[Feature], windower: Windower) -> Windows:
    """Divides the sample by use: windows that a model is calibrated on say little about its quality."""
    count = request.calibration.windows
    if request.calibration.questions is not None:
        theirs = Sample(count, request.calibration.seed)
        for _ in theirs.watch(windower.windows(request.calibration.questions)):
            pass
        return Windows(theirs.features, sample[:count], 0)
    if not request.judged or not (request.recipe.quantized or request.keep is not None):
        return Windows(sample[:count], sample[:count], 0)
    if len(sample) == 1:
        return Windows(sample, sample, 1)
    return Windows(sample[::2], sample[1::2], 0)


def _make_model(
    request: BuildRequest, sdk: Sdk | None, given: Given | None, source: ModelSource, windows: Windows,
    simulate: Simulator, draft: Path, work: Path, out: Path, progress: Progress, notes: Notes,
) -> ModelRecord:  # fmt: skip
    """Writes the DLC and its channels' exponents; returns the manifest's record of the model."""
    dlc, recipe = draft / layout.DEVICE / layout.MODEL, request.recipe
    if source.is_dlc:
        return _take_dlc(request, source, dlc)
    names, sample = [spec.name for spec in source.inputs], windows.calibration
    feeds, others = (
        [{name: feature.inputs[name][None] for name in names} for feature in features]
        for features in (sample, windows.judged)
    )
    job = Job(
        source=source,
        recipe=recipe,
        soc=request.chip,
        sdk=sdk,
        feeds=feeds,
        work=work,
        log=layout.convert_log(out),
        cache=request.cache and request.save_encodings is None,
        given=given,
    )
    trials: tuple[Trial, ...] = ()
    if request.keep is not None:
        job = replace(job, recipe=replace(recipe, precision="w8a8"))  # the mask is measured, and operators are checked
        fit = fit_checked(job, progress)
        judge = Judge(fit, request.questions, windows.judged, others, windows.shared, simulate)
        chosen = choose_precision(job, fit, judge, request.keep, dlc, progress)
        recipe, made, trials = chosen.recipe, chosen.made, chosen.trials
        check = trials[-1].simulator
    else:
        made, check = make_dlc(job, dlc, progress), None
        if request.check:
            fit = made.graph or fit_checked(job, progress)
            judge = Judge(fit, request.questions, windows.judged, others, windows.shared, simulate)
            check = judge.check_dlc(dlc, request.chip, progress)
    if made.remark:
        notes.remark(made.remark)
    origin = origin_of(dlc, cache=job.cache)
    if request.save_encodings is not None:
        _save_encodings(made, request.save_encodings, notes)
    if made.exponents:
        np.save(draft / layout.HOST / layout.EXPONENTS, np.array(made.exponents, np.int8))
    asked, scaled = request.calibration, [abs(exponent) for exponent in made.exponents if exponent]
    return ModelRecord(
        name=source.name,
        precision=recipe.precision,
        converter=made.converter,
        soc=request.chip.name,
        float_bytes=made.float_bytes,
        dlc_bytes=made.dlc_bytes,
        mask_size=made.mask_size,
        calibration=CalibrationRecord(asked.name, len(sample), asked.seed, recipe.method, made.per_channel, made.wide)
        if recipe.quantized
        else None,
        check=check,
        equalized=EqualizationRecord(len(scaled), max(scaled)) if scaled else None,
        trials=trials,
        engine=origin.engine,
        graph=origin.graph,
    )


def _save_encodings(made: Made, path: Path, notes: Notes) -> None:
    if made.encodings is None:
        notes.remark(f"the precision taken is float: no encodings are written to {path}")
        return
    with writing(path) as draft:
        draft.write_text(encodings_text(made.encodings, made.exponents), encoding="utf-8", newline="\n")


def _take_dlc(request: BuildRequest, source: ModelSource, dlc: Path) -> ModelRecord:
    """Copies a DLC unchanged, and prepares its context if the recipe asks for it."""
    shutil.copyfile(source.path, dlc)
    if request.recipe.prepare:
        known = source.precision in PRECISIONS
        check_simulated(request.chip, source.precision if known and source.precision else "w8a8")
        prepare_context(dlc, request.chip)
    origin, size = origin_of(dlc), dlc.stat().st_size
    return ModelRecord(
        source.name, source.precision or "", "as it is", request.chip.name, None, size, None, None, None,
        engine=origin.engine, graph=origin.graph,
    )  # fmt: skip


def _write_scripts(device: Path, source: ModelSource, windows: Sequence[Window]) -> None:
    environment = templates(html=False)
    values = {
        "model": layout.MODEL,
        "input_list": layout.INPUT_LIST,
        "output": layout.OUTPUT,
        "prepared": layout.PREPARED,
        "outputs": [spec.name for spec in source.outputs],
        "windows": windows,
    }
    for name in (layout.INPUT_LIST, *(engine.runner for engine in ENGINES.values())):
        stream = environment.get_template(f"{name}.j2").stream(values)
        stream.enable_buffering()
        stream.dump(str(device / name), encoding="utf-8")
