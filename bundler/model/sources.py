"""Opens what `--model` names, an ONNX file, a DLC, a transformers folder or a model on the hub, as a ModelSource."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bundler.errors import FileUnreadable, HostStorageFailed, ModelInvalid, UsageError
from bundler.model.adapt import KNOWN_INPUTS, adapt, option_for
from bundler.model.file_kinds import check_kind
from bundler.model.hub import is_model_name, local_folder, tokenizer_in
from bundler.model.onnx_graph import sizes
from bundler.types import OUTPUTS, Progress, TensorSpec

DEFAULT_LENGTH = 384
NEEDED = "A model takes input_ids, attention_mask and token_type_ids of (1, length), and gives start and end logits."
LARGEST_LENGTH = 4096
NEWEST_IR = 10
HUB_ADDRESS = re.compile(r"^https?://(?:www\.)?(?:huggingface\.co|hf\.co)/")
SOURCE_LINE = re.compile(r"\S+\.(?:cc|cpp|h|cu):\d+:? (?:\S+ )?(?:\[\w+\] )?")
"""A location in the source of ONNX's libraries, which does not help the user."""


@dataclass(frozen=True)
class ModelSource:
    """A question-answering model: an ONNX file, or a DLC that is used unchanged.

    Every input and output is (1, length) on the phone; `tokenizer` is a tokenizer.json or a vocab.txt; `notes` describe
    how the file was adapted; `embedding_rows` is the number of token ids that it has an embedding for, None if its
    graph does not show it.
    """

    name: str
    path: Path
    tokenizer: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: str | None = None
    notes: tuple[str, ...] = ()
    embedding_rows: int | None = None

    @property
    def length(self) -> int:
        return self.inputs[0].shape[1]

    @property
    def is_dlc(self) -> bool:
        return self.precision is not None


def open_model(
    model: str | Path,
    tokenizer: Path | None,
    length: int | None,
    work: Path,
    progress: Progress,
    names: Mapping[str, str] | None = None,
) -> ModelSource:
    """Opens the model that `model` names, with its tokenizer. Exports, downloads or adapts it into `work` if needed.

    names: the ONNX file's own names for tensors of KNOWN_INPUTS and OUTPUTS, if they differ.

    Raises:
        ModelInvalid, DlcInvalid, FileUnreadable: refused; UsageError: it has another length, or no tokenizer.
        ExtraMissing, HubUnreachable, NoConverter: something is missing here.
    """
    model = HUB_ADDRESS.sub("", str(model)).rstrip("/") or model
    path = Path(model)
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        raise ModelInvalid(path, "is an adapter, not a whole model", "Merge it into its base model (merge_and_unload).")
    if path.is_dir() and not _has_weights(path) and (path / "onnx" / "model.onnx").is_file():
        tokenizer = tokenizer or tokenizer_in(path)
        path = path / "onnx" / "model.onnx"  # the layout of Xenova's models
    if path.is_dir() and (path / "model.onnx").is_file() and not (_has_weights(path) and find_spec("torch")):
        path = path / "model.onnx"  # what optimum writes; its weights are useless without torch
    if path.is_dir() or is_model_name(str(model)):
        return _exported(str(model), tokenizer, length or DEFAULT_LENGTH, work, progress)
    beside = tokenizer or tokenizer_beside(path)
    if path.suffix == ".dlc":
        if names:
            raise UsageError(f"{path}: --inputs and --outputs are for ONNX files", "Give the model that it came from.")
        return _read_dlc(path, beside, length)
    return _of_onnx(path, path.name, beside, length, work, names or {})


def tokenizer_beside(model: Path) -> Path:
    """Returns the tokenizer.json or vocab.txt in the model's folder.

    Raises:
        FileUnreadable: there is no such model; UsageError: there is no tokenizer
    """
    if not model.exists():
        raise FileUnreadable(model, "there is no such file, folder or model on the hub")
    found = tokenizer_in(model.parent)
    if found is None:
        raise UsageError(f"{model}: there is no tokenizer.json or vocab.txt beside it", "Give one with --tokenizer.")
    return found


def load_onnx(path: Path) -> onnx.ModelProto:
    """Loads the ONNX file with all its weights, including those in files beside it.

    Raises:
        FileUnreadable; ModelInvalid: it is not an ONNX, or its external data is missing or lies outside its folder
    """
    from google.protobuf.message import DecodeError

    check_kind(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error
    except DecodeError as error:
        raise ModelInvalid(path, "is not an ONNX file, or it was cut short") from error
    if not model.graph.output or not _names_are_text(model.graph):
        raise ModelInvalid(path, "is not an ONNX file, or it was cut short")
    model.ir_version = min(model.ir_version, NEWEST_IR)  # newer versions do not affect any supported operator
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # the library raises ValueError, OSError and its own
        raise ModelInvalid(
            path, f"its external data cannot be read: {first_line(error)}", "Keep its data files beside the ONNX file."
        ) from error
    return model


def embedding_rows(model: onnx.ModelProto) -> int | None:
    """Returns the number of token ids that the model has an embedding for; None if its graph does not show it."""
    graph = model.graph
    rows, ids = {tensor.name: tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 2}, {"input_ids"}
    for node in graph.node:
        if node.op_type in ("Cast", "Identity") and ids.intersection(node.input):
            ids.update(node.output)
        elif node.op_type == "Gather" and node.input[1] in ids and node.input[0] in rows:
            return int(rows[node.input[0]])
    return None


def load_adapted(path: Path, length: int | None, names: Mapping[str, str]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Loads the ONNX file's model with the usual names, dtypes and operators; also returns notes on the changes.

    Raises:
        FileUnreadable, ModelInvalid; UsageError: it has no tensor of such a name
    """
    model = load_onnx(path)
    _check_weights(path, model)
    own = (size for value in model.graph.input for size in sizes(value)[1:2] if size and size > 1)
    notes = adapt(path, model, next(own, None) or length or DEFAULT_LENGTH, names)
    return model, notes


def specs_of(
    path: Path, model: onnx.ModelProto, length: int | None = None
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Returns the inputs and outputs that the ONNX file's model will have for windows of `length` tokens.

    Raises:
        ModelInvalid: it is not a question-answering model; UsageError: it has another length
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    _check_names(path, [value.name for value in inputs], [value.name for value in model.graph.output])
    fixed = [_fixed_length(path, value) for value in inputs]
    own = next((size for size in fixed if size), None)
    if own and any(size not in (own, None) for size in fixed):
        raise ModelInvalid(path, f"its inputs differ in length: {fixed}", NEEDED)
    _check_length(path, own, length)
    shape = (1, own or length or DEFAULT_LENGTH)
    for value in model.graph.output:
        if value.name in OUTPUTS:
            _check_output(path, value, shape)
    return (
        tuple(TensorSpec(value.name, "int32", shape) for value in inputs),
        tuple(TensorSpec(value.name, "float32", shape) for value in model.graph.output if value.name in OUTPUTS),
    )


def _exported(model: str, tokenizer: Path | None, length: int, work: Path, progress: Progress) -> ModelSource:
    """Exports a transformers model to ONNX. Reports defects before loading torch or downloading weights."""
    from bundler.model.export import export_model
    from bundler.model.pretrained import check_config, check_weights, read_config
    from bundler.model.tokenizers import tokenizer_of

    _check_length(Path(model), None, length)
    folder, is_here = local_folder(model, progress, weights=False), Path(model).is_dir()
    check_config(folder, read_config(folder), length)
    if is_here:
        check_weights(folder)
    words = tokenizer or tokenizer_of(folder, work)
    path = work / "exported.onnx"
    export_model(model, path, length, progress)
    return _of_onnx(path, Path(model).resolve().name if is_here else model, words, length, work, {})


def _of_onnx(
    path: Path, name: str, tokenizer: Path, length: int | None, work: Path, names: Mapping[str, str]
) -> ModelSource:
    """Opens an ONNX file, adapted into `work` if needed."""
    model, notes = load_adapted(path, length, names)
    inputs, outputs = specs_of(path, model, length)
    if notes:
        path = work / "adapted.onnx"
        onnx.save(model, path)
    return ModelSource(name, path, tokenizer, inputs, outputs, notes=notes, embedding_rows=embedding_rows(model))


def _has_weights(folder: Path) -> bool:
    try:
        return any(path.suffix in (".safetensors", ".bin") for path in folder.iterdir())
    except OSError as error:
        raise FileUnreadable(folder, error.strerror or str(error)) from error


def _read_dlc(path: Path, tokenizer: Path, length: int | None) -> ModelSource:
    """Opens a DLC with its own names, dtypes and shapes, read in a child process."""
    from bundler.dlc.inspect import inspect_dlc

    report = inspect_dlc(path)
    inputs, outputs = (tuple(tensor.spec for tensor in side) for side in (report.inputs, report.outputs))
    _check_names(path, [spec.name for spec in inputs], [spec.name for spec in outputs])
    chosen = tuple(spec for spec in outputs if spec.name in OUTPUTS)
    shape = inputs[0].shape
    for spec in (*inputs, *chosen):
        if len(spec.shape) != 2 or spec.shape[0] != 1 or spec.shape != shape:
            raise ModelInvalid(path, f"{spec.name} has shape {list(spec.shape)}, not (1, length)", NEEDED)
    _check_length(path, shape[1], length)
    return ModelSource(
        path.name, path, tokenizer, inputs, chosen, report.precision, embedding_rows=report.embedding_rows
    )


def _check_weights(path: Path, model: onnx.ModelProto) -> None:
    """Rejects non-finite weights; single numbers may be infinite, as constants of masks are."""
    for tensor in model.graph.initializer:
        if tensor.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE):
            continue
        try:
            value = onnx.numpy_helper.to_array(tensor)
        except ValueError as error:
            raise ModelInvalid(path, f"weight {tensor.name} is damaged: {first_line(error)}") from error
        if np.isnan(value).any() or (value.size > 1 and not np.isfinite(value).all()):
            raise ModelInvalid(
                path, f"weight {tensor.name} is not finite (NaN or infinity)", "Take an undamaged model."
            )


def _names_are_text(graph: onnx.GraphProto) -> bool:
    """Returns whether all names are text: protobuf gives bytes for a name that is not UTF-8."""
    named = (*graph.input, *graph.output, *graph.node, *graph.initializer)
    tensors = (name for node in graph.node for name in (node.op_type, node.domain, *node.input, *node.output))
    return all(isinstance(name, str) for name in (*(each.name for each in named), *tensors))


def _check_names(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    if "input_ids" not in inputs or not set(inputs) <= set(KNOWN_INPUTS):
        what = f"takes {', '.join(inputs) or 'nothing'}, not {', '.join(KNOWN_INPUTS)}"
        raise ModelInvalid(path, what, _hint(path, KNOWN_INPUTS, inputs, "--inputs"))
    missing = [name for name in OUTPUTS if name not in outputs]
    if missing:
        what = f"has no output {missing[0]} (it has {', '.join(outputs) or 'none'})"
        raise ModelInvalid(path, what, _hint(path, OUTPUTS, outputs, "--outputs"))


def _hint(path: Path, wanted: Sequence[str], present: Sequence[str], option: str) -> str:
    """Returns a hint on naming the model's tensors, which applies to ONNX files only."""
    missing = [name for name in wanted if name not in present]
    return NEEDED if path.suffix == ".dlc" else f"{NEEDED} {option_for(missing, option)}"


def _check_length(path: Path, own: int | None, asked: int | None) -> None:
    if asked is not None and not 0 < asked <= LARGEST_LENGTH:
        raise UsageError(f"--seq-len {asked}: not from 1 to {LARGEST_LENGTH}")
    if own is not None and asked is not None and own != asked:
        raise UsageError(f"{path}: takes {own} tokens, not {asked}", "Leave --seq-len out, or export the model anew.")


def _fixed_length(path: Path, value: Any) -> int | None:
    """Returns the input's length if it is fixed, else None."""
    kind = value.type.tensor_type.elem_type
    if kind not in (onnx.TensorProto.INT32, onnx.TensorProto.INT64):
        raise ModelInvalid(path, f"input {value.name} is {_dtype(kind)}, not int32 or int64", NEEDED)
    found = sizes(value)
    if len(found) != 2 or found[0] not in (1, None) or found[1] == 0:
        raise ModelInvalid(path, f"input {value.name} has shape {_shown(value)}, not (1, length)", NEEDED)
    return found[1]


def _check_output(path: Path, value: Any, shape: tuple[int, int]) -> None:
    """Rejects an output that is declared as anything but float (1, length)."""
    tensor = value.type.tensor_type
    if tensor.elem_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.UNDEFINED):
        raise ModelInvalid(path, f"output {value.name} is {_dtype(tensor.elem_type)}, not float32", NEEDED)
    found = sizes(value)
    fits = len(found) == 2 and all(size in (None, wanted) for size, wanted in zip(found, shape, strict=True))
    if tensor.HasField("shape") and not fits:
        raise ModelInvalid(path, f"output {value.name} has shape {_shown(value)}, not {list(shape)}", NEEDED)


def _shown(value: Any) -> list[int | str]:
    return [dim.dim_value or dim.dim_param or "?" for dim in value.type.tensor_type.shape.dim]


def _dtype(kind: int) -> str:
    known = kind in onnx.TensorProto.DataType.values() and kind != onnx.TensorProto.UNDEFINED
    return str(onnx.helper.tensor_dtype_to_np_dtype(kind)) if known else "of no known type"


def first_line(error: Exception) -> str:
    """Returns the first line of a foreign library's error, without codes and source locations."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return SOURCE_LINE.sub("", re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", line)) or type(error).__name__


def keep_tokenizer(source: ModelSource, out: Path) -> None:
    """Writes the tokenizer as a self-contained tokenizer.json.

    Raises:
        ModelInvalid, FileUnreadable, HostStorageFailed
    """
    from bundler.qa.features import load_tokenizer, tokenizer_text

    tokenizer = load_tokenizer(source.tokenizer)
    try:
        if source.tokenizer.suffix == ".json":
            out.write_text(tokenizer_text(source.tokenizer), encoding="utf-8", newline="\n")
        else:
            out.write_text(tokenizer.to_str(pretty=True), encoding="utf-8", newline="\n")
    except OSError as error:
        raise HostStorageFailed(out, error.strerror or str(error)) from error
