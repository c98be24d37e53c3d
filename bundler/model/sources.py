"""Looks into an ONNX file before it is converted: the inputs and outputs that a question-answering model must have."""

from dataclasses import dataclass
from pathlib import Path

from bundler.errors import FileUnreadable, ModelInvalid
from bundler.types import TensorSpec

KNOWN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUTS = ("start_logits", "end_logits")
NEEDED = "A model takes int32 input_ids, attention_mask and token_type_ids, all of one fixed shape (1, length)."


@dataclass(frozen=True)
class ModelSource:
    """An ONNX file fit for conversion; every tensor is (1, length)."""

    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def length(self) -> int:
        return self.inputs[0].shape[1]


def read_onnx(path: Path) -> ModelSource:
    """What the ONNX file takes and gives.

    Raises:
        FileUnreadable; ModelInvalid: it is no ONNX, or not a question-answering model with fixed shapes.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error
    except DecodeError as error:
        raise ModelInvalid(path, "is no ONNX file, or it was cut short") from error
    weights = {tensor.name for tensor in graph.initializer}
    inputs = tuple(_spec(path, value, "input") for value in graph.input if value.name not in weights)
    outputs = tuple(_spec(path, value, "output") for value in graph.output)
    if not inputs and not outputs:
        raise ModelInvalid(path, "is no ONNX file, or it was cut short")
    _check_inputs(path, inputs)
    missing = [name for name in OUTPUTS if name not in {spec.name for spec in outputs}]
    if missing:
        has = ", ".join(spec.name for spec in outputs) or "none"
        raise ModelInvalid(path, f"has no output {missing[0]} (it has {has})")
    chosen = tuple(spec for spec in outputs if spec.name in OUTPUTS)
    for spec in chosen:
        if spec.shape != inputs[0].shape or spec.dtype != "float32":
            raise ModelInvalid(
                path, f"output {spec.name} is {spec.dtype}{list(spec.shape)}, not float32{list(inputs[0].shape)}"
            )
    return ModelSource(path, inputs, chosen)


def _spec(path: Path, value: object, role: str) -> TensorSpec:
    from onnx import helper

    tensor = value.type.tensor_type  # type: ignore[attr-defined]
    name: str = value.name  # type: ignore[attr-defined]
    if any(not dim.HasField("dim_value") or dim.dim_value < 1 for dim in tensor.shape.dim):
        raise ModelInvalid(path, f"{role} {name} has no fixed shape", NEEDED)
    dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if tensor.elem_type else "unknown"
    return TensorSpec(name, dtype, tuple(dim.dim_value for dim in tensor.shape.dim))


def _check_inputs(path: Path, inputs: tuple[TensorSpec, ...]) -> None:
    names = [spec.name for spec in inputs]
    if "input_ids" not in names or not set(names) <= set(KNOWN_INPUTS):
        raise ModelInvalid(path, f"takes {', '.join(names) or 'nothing'}, not {', '.join(KNOWN_INPUTS)}", NEEDED)
    for spec in inputs:
        if spec.dtype != "int32":
            raise ModelInvalid(path, f"input {spec.name} is {spec.dtype}, not int32", NEEDED)
        if len(spec.shape) != 2 or spec.shape[0] != 1 or spec.shape != inputs[0].shape:
            raise ModelInvalid(path, f"input {spec.name} has shape {list(spec.shape)}, not (1, length)", NEEDED)
