"""Questions and a model in, a bundle out."""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import jinja2
import numpy as np

from bundler import __version__, layout
from bundler.bundle import SCHEMA, Bundle, FileEntry, Manifest, Window, drafting, file_entries, read_bundle
from bundler.errors import NoConverter
from bundler.model.convert import onnx_to_dlc
from bundler.model.sdk import convert_by_sdk, device_parts
from bundler.model.sources import ModelSource, read_onnx
from bundler.qa.features import Windower, load_tokenizer
from bundler.resources import TEMPLATES
from bundler.soc import Soc
from bundler.types import Feature, Progress, QuestionSet

OVERLAP = 128
MAX_ANSWER_TOKENS = 30


@dataclass(frozen=True)
class BuildRequest:
    """What a bundle is made of."""

    questions: QuestionSet
    model: Path
    tokenizer: Path
    soc: Soc
    sdk: Path | None = None
    overlap: int = OVERLAP


def build_bundle(request: BuildRequest, out: Path, progress: Progress) -> Bundle:
    """Writes the bundle `out`; on any failure nothing of it is left.

    Raises:
        InputError: questions or model refused; MissingHere: no converter, no room.
    """
    source = read_onnx(request.model)
    windower = Windower(load_tokenizer(request.tokenizer), source.length, request.overlap)
    with drafting(out) as draft:
        (draft / layout.DEVICE).mkdir()
        (draft / layout.HOST).mkdir()
        progress("cutting questions into windows", 0, None)
        windows = _write_inputs(draft, source, windower.windows(request.questions.questions))
        progress("converting the model to a DLC", 0, None)
        _convert(request, source, draft / layout.DEVICE / layout.MODEL)
        if request.sdk is not None:
            _copy_parts(draft / layout.DEVICE, device_parts(request.sdk, request.soc))
        _write_scripts(draft / layout.DEVICE, source, windows)
        _write_host_files(draft / layout.HOST, request)
        progress("checking the bundle", 0, None)
        manifest = _manifest(request, source, windows, file_entries(draft))
        (draft / layout.MANIFEST).write_text(manifest.to_json(), encoding="utf-8", newline="\n")
    return read_bundle(out)


def _convert(request: BuildRequest, source: ModelSource, dlc: Path) -> None:
    """By Qualcomm's libraries from the wheel, which check each operator; where there are none, by the SDK's tool."""
    try:
        onnx_to_dlc(source.path, dlc, request.soc)
    except NoConverter:
        if request.sdk is None:
            raise
        convert_by_sdk(request.sdk, source, dlc)


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


def _write_host_files(host: Path, request: BuildRequest) -> None:
    questions = [asdict(question) for question in request.questions.questions]
    text = json.dumps(questions, indent=1, ensure_ascii=False) + "\n"
    (host / layout.QUESTIONS).write_text(text, encoding="utf-8", newline="\n")
    (host / request.tokenizer.name).write_bytes(request.tokenizer.read_bytes())


def _manifest(
    request: BuildRequest, source: ModelSource, windows: tuple[Window, ...], files: dict[str, FileEntry]
) -> Manifest:
    return Manifest(
        schema=SCHEMA,
        made_by=f"mbqa-bundle {__version__}",
        model=source.path.name,
        precision="float",
        inputs=source.inputs,
        outputs=source.outputs,
        max_answer_tokens=MAX_ANSWER_TOKENS,
        may_be_unanswerable=request.questions.may_be_unanswerable,
        windows=windows,
        files=files,
    )
