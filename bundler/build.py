"""Questions and a model in, a bundle out."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import jinja2
import numpy as np

from bundler import __version__, layout
from bundler.bundle import (
    SCHEMA,
    Bundle,
    CalibrationRecord,
    FileEntry,
    Manifest,
    ModelRecord,
    Window,
    drafting,
    file_entries,
    read_bundle,
)
from bundler.check import check_dlc
from bundler.model.make import PRECISIONS, Job, Made, Recipe, make_dlc
from bundler.model.sdk import Sdk, device_parts, open_sdk
from bundler.model.simulate import check_simulated, prepare_context
from bundler.model.sources import ModelSource, keep_tokenizer, open_model
from bundler.qa.features import Windower, load_tokenizer
from bundler.qa.spans import MAX_ANSWER_TOKENS
from bundler.reference import keep_reference
from bundler.resources import TEMPLATES
from bundler.sample import Sample
from bundler.soc import DEFAULT, Soc, known_socs
from bundler.types import Feature, Progress, QuestionSet

OVERLAP = 128
CALIBRATION_WINDOWS = 32


@dataclass(frozen=True)
class CalibrationRequest:
    """Windows to calibrate on: a sample of those of `questions`, or of the bundle's own where it is None."""

    questions: QuestionSet | None = None
    name: str = "the bundle's questions"
    windows: int = CALIBRATION_WINDOWS
    seed: int = 0


@dataclass(frozen=True)
class BuildRequest:
    """What a bundle is made of. `model` as `open_model` takes it; `soc` None: any chip that the SDK knows."""

    questions: QuestionSet
    model: str | Path
    tokenizer: Path | None = None
    soc: Soc | None = None
    sdk: Path | None = None
    overlap: int = OVERLAP
    length: int | None = None
    recipe: Recipe = field(default_factory=Recipe)
    calibration: CalibrationRequest = field(default_factory=CalibrationRequest)
    check: bool = False

    @property
    def chip(self) -> Soc:
        """The chip whose HTP judges the operators."""
        return self.soc or known_socs()[DEFAULT]


def build_bundle(request: BuildRequest, out: Path, progress: Progress) -> Bundle:
    """Writes the bundle `out`; on any failure nothing of it is left.

    Raises:
        InputError: questions or model refused; MissingHere: no converter, no room; SocUnfit: not with this chip.
    """
    if request.check:
        check_simulated(request.chip, request.recipe.precision)
    sdk = open_sdk(request.sdk) if request.sdk is not None else None
    parts = device_parts(sdk, request.soc) if sdk is not None else {}
    with tempfile.TemporaryDirectory(prefix="mbqa-build-") as folder, drafting(out) as draft:
        work, device, host = Path(folder), draft / layout.DEVICE, draft / layout.HOST
        for made in (device, host):
            made.mkdir()
        source = open_model(request.model, request.tokenizer, request.length, work, progress)
        keep_tokenizer(source, host / layout.TOKENIZER)
        windower = Windower(load_tokenizer(host / layout.TOKENIZER), source.length, request.overlap)
        sample = Sample(request.calibration.windows, request.calibration.seed)
        progress("cutting questions into windows", 0, None)
        windows = _write_inputs(draft, source, sample.watch(windower.windows(request.questions.questions)))
        if request.calibration.questions is not None:
            sample = _sample_of(request.calibration.questions, windower, request.calibration)
        record = _make_model(request, sdk, source, sample.features, device, work, out, progress)
        progress("computing the float32 reference", 0, None)
        keep_reference(source, draft, windows)
        _copy_parts(device, parts)
        _write_scripts(device, source, windows)
        _write_questions(host, request.questions)
        progress("checking the bundle", 0, None)
        manifest = _manifest(request, source, record, windows, file_entries(draft))
        (draft / layout.MANIFEST).write_text(manifest.to_json(), encoding="utf-8", newline="\n")
    return read_bundle(out)


def _make_model(
    request: BuildRequest, sdk: Sdk | None, source: ModelSource, sample: list[Feature], device: Path, work: Path,
    out: Path, progress: Progress,
) -> ModelRecord:  # fmt: skip
    """Writes the DLC; returns what the manifest tells of it."""
    dlc, recipe = device / layout.MODEL, request.recipe
    if source.is_dlc:
        return _take_dlc(request, source, dlc)
    names = [spec.name for spec in source.inputs]
    feeds = [{name: feature.inputs[name][None] for name in names} for feature in sample]
    job = Job(
        source=source,
        recipe=recipe,
        soc=request.chip,
        sdk=sdk,
        feeds=feeds,
        calibration_list=_write_calibration(work, names, sample),
        work=work,
        log=layout.convert_log(out),
    )
    made = make_dlc(job, dlc, progress)
    asked = request.calibration.questions or request.questions
    check = check_dlc(dlc, made.graph, request.chip, asked, sample, feeds, progress) if request.check else None
    return ModelRecord(
        name=source.name,
        precision=recipe.precision,
        converter=made.converter,
        soc=request.chip.name,
        float_bytes=made.float_bytes,
        dlc_bytes=made.dlc_bytes,
        mask_size=made.mask_size,
        calibration=_calibration_record(request, made, len(sample)) if recipe.quantized else None,
        check=check,
    )


def _take_dlc(request: BuildRequest, source: ModelSource, dlc: Path) -> ModelRecord:
    """A DLC as it is, and what is prepared of it."""
    shutil.copyfile(source.path, dlc)
    if request.recipe.prepare:
        known = source.precision in PRECISIONS
        check_simulated(request.chip, source.precision if known and source.precision else "w8a8")
        prepare_context(dlc, request.chip)
    return ModelRecord(
        source.name, source.precision or "", "as it is", request.chip.name, None, dlc.stat().st_size, None, None, None
    )


def _calibration_record(request: BuildRequest, made: Made, windows: int) -> CalibrationRecord:
    asked, recipe = request.calibration, request.recipe
    return CalibrationRecord(asked.name, windows, asked.seed, recipe.method, recipe.per_channel, made.wide)


def _sample_of(questions: QuestionSet, windower: Windower, request: CalibrationRequest) -> Sample:
    """A sample of the windows of questions that are not the bundle's."""
    sample = Sample(request.windows, request.seed)
    for _ in sample.watch(windower.windows(questions.questions)):
        pass
    return sample


def _write_calibration(work: Path, names: list[str], sample: list[Feature]) -> Path:
    """The sample as float32 raw files, and the list of them that the SDK's quantizers read."""
    lines = []
    for number, feature in enumerate(sample):
        paths = {name: f"calibration/{name}-{number}.raw" for name in names}
        for name, path in paths.items():
            (work / path).parent.mkdir(exist_ok=True)
            (work / path).write_bytes(feature.inputs[name].astype("<f4").tobytes())
        lines.append(" ".join(f"{name}:={path}" for name, path in paths.items()) + "\n")
    listing = work / "calibration.txt"
    listing.write_text("".join(lines), encoding="utf-8", newline="\n")
    return listing


def _write_inputs(draft: Path, source: ModelSource, features: Iterable[Feature]) -> tuple[Window, ...]:
    """Each window's raw inputs as little-endian float32 (the dtype that snpe-net-run reads), and all offsets."""
    names = [spec.name for spec in source.inputs]
    for name in names:
        (draft / layout.DEVICE / layout.INPUTS / name).mkdir(parents=True)
    windows, offsets = [], []
    for line, feature in enumerate(features):
        inputs = {name: layout.input_file(name, line) for name in names}
        for name, path in inputs.items():
            (draft / layout.DEVICE / path).write_bytes(feature.inputs[name].astype("<f4").tobytes())
        outputs = {spec.name: layout.result_file(spec.name, line) for spec in source.outputs}
        windows.append(Window(feature.key, feature.question_id, line, inputs, outputs))
        offsets.append(feature.offsets)
    np.save(draft / layout.HOST / layout.OFFSETS, np.stack(offsets).astype("<i4"))
    return tuple(windows)


def _copy_parts(device: Path, parts: Mapping[str, Path]) -> None:
    for name, source in parts.items():
        (device / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, device / name)


def _write_scripts(device: Path, source: ModelSource, windows: tuple[Window, ...]) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        autoescape=False,  # shell scripts and lists, not HTML
    )
    values = {
        "model": layout.MODEL,
        "input_list": layout.INPUT_LIST,
        "output": layout.OUTPUT,
        "runner": layout.RUNNER,
        "outputs": [spec.name for spec in source.outputs],
        "windows": windows,
    }
    for name in (layout.INPUT_LIST, layout.RUNNER):
        text = environment.get_template(f"{name}.j2").render(values)
        (device / name).write_text(text, encoding="utf-8", newline="\n")


def _write_questions(host: Path, questions: QuestionSet) -> None:
    text = json.dumps([asdict(question) for question in questions.questions], indent=1, ensure_ascii=False) + "\n"
    (host / layout.QUESTIONS).write_text(text, encoding="utf-8", newline="\n")


def _manifest(
    request: BuildRequest,
    source: ModelSource,
    record: ModelRecord,
    windows: tuple[Window, ...],
    files: dict[str, FileEntry],
) -> Manifest:
    return Manifest(
        schema=SCHEMA,
        made_by=f"mbqa-bundle {__version__}",
        model=record,
        inputs=source.inputs,
        outputs=source.outputs,
        max_answer_tokens=MAX_ANSWER_TOKENS,
        may_be_unanswerable=request.questions.may_be_unanswerable,
        windows=windows,
        files=files,
    )
