"""Reads a DLC's graph by composing the DLC onto an interface that only records the calls."""

import ctypes as C
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bundler.dlc import qnn
from bundler.dlc.encoding import Encoding, widen
from bundler.dlc.qnn import P
from bundler.errors import DlcInvalid


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph, in its stored dtype: `data` is set for weights, `encoding` for quantized tensors."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    data: npt.NDArray[Any] | None
    encoding: Encoding | None = None

    @property
    def is_real(self) -> bool:
        """Returns whether its elements represent real numbers: floating point, or fixed point with an encoding."""
        return self.dtype.kind == "f" or self.encoding is not None

    def reals(self) -> npt.NDArray[np.float32]:
        """Returns the weight's real values."""
        if self.data is None:
            raise ValueError(f"tensor {self.name!r} is not a weight")
        return self.data.astype(np.float32) if self.encoding is None else self.encoding.dequantize(self.data)


@dataclass(frozen=True)
class Operator:
    """One operator by its QNN type; inputs and outputs are tensor names, params are numbers or arrays."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: tuple[Operator, ...]
    tensors: Mapping[str, Tensor]


def dtype_of(code: int) -> np.dtype[Any]:
    """Returns the numpy dtype of a Qnn_DataType_t.

    Raises:
        ValueError: there is none.
    """
    if code not in qnn.DTYPES:
        raise ValueError(f"data type {code:#06x} is not known")
    return qnn.DTYPES[code]


def _array(tensor: qnn.Tensor) -> npt.NDArray[Any]:
    dtype = dtype_of(tensor.dtype)
    count = int(np.prod(tensor.shape, dtype=np.int64))
    if tensor.size < count * dtype.itemsize:
        raise ValueError(f"tensor {tensor.name.decode()!r} holds {tensor.size} bytes of {count * dtype.itemsize}")
    return np.frombuffer(C.string_at(tensor.data, count * dtype.itemsize), dtype).reshape(tensor.shape)


def encoding_of(tensor: qnn.Tensor) -> Encoding | None:
    """Returns the tensor's quantization; None if it is not quantized.

    Raises:
        ValueError: this reader does not know the kind of its encoding, or the encoding does not fit the tensor.
    """
    if tensor.quantize.definition != qnn.DEFINED:
        return None
    kind, value = tensor.quantize.encoding, tensor.quantize.value
    bits = 8 * dtype_of(tensor.dtype).itemsize
    if kind == qnn.PER_TENSOR:
        found = Encoding((value.perTensor.scale,), (value.perTensor.offset,), bits)
    elif kind == qnn.BW_PER_TENSOR:
        found = Encoding((value.bwPerTensor.scale,), (value.bwPerTensor.offset,), value.bwPerTensor.bits)
    elif kind == qnn.PER_AXIS:
        items = value.perAxis.items[: _along(tensor, value.perAxis)]
        found = Encoding(tuple(i.scale for i in items), tuple(i.offset for i in items), bits, value.perAxis.axis)
    elif kind == qnn.BW_PER_AXIS:
        axis, count = value.bwPerAxis, _along(tensor, value.bwPerAxis)
        offsets = tuple(axis.offsets[:count]) if axis.offsets else (0,) * count
        found = Encoding(tuple(axis.scales[:count]), offsets, axis.bits, axis.axis)
    else:
        raise ValueError(f"tensor {tensor.name.decode()!r} has quantization encoding {kind}, which is not known")
    if not 1 <= found.bits <= bits:
        raise ValueError(f"tensor {tensor.name.decode()!r} has {found.bits} bits in an element of {bits}")
    return found


def _along(tensor: qnn.Tensor, value: Any) -> int:
    """Returns the number of a per-axis encoding's scales, after checking that they match the tensor's axis."""
    shape = tensor.shape
    if not 0 <= value.axis < len(shape) or value.count != shape[value.axis]:
        raise ValueError(
            f"tensor {tensor.name.decode()!r} of shape {shape} has {value.count} scales along axis {value.axis}"
        )
    return int(value.count)


def _tensor(tensor: qnn.Tensor) -> Tensor:
    encoding = encoding_of(tensor)
    data = _array(tensor) if tensor.type == qnn.TENSOR_STATIC else None
    if data is not None and encoding is not None:
        data = widen(data, encoding.bits)
    return Tensor(tensor.name.decode(), dtype_of(tensor.dtype), tensor.shape, data, encoding)


def _param(param: qnn.Param) -> Any:
    if param.type == qnn.PARAM_TENSOR:
        return _array(param.value.tensor)
    scalar = param.value.scalar
    dtype = dtype_of(scalar.dtype)
    return np.frombuffer(scalar.bits.to_bytes(8, "little")[: dtype.itemsize], dtype)[0].item()


def _names(tensors: Any, count: int) -> tuple[str, ...]:
    return tuple(tensors[i].name.decode() for i in range(count))


def read_graph(path: Path) -> Graph:
    """Reads the graph in a DLC, including weights. Needs no backend; use a child process for an untrusted file.

    Raises:
        DlcInvalid: the file is not a DLC, or holds what this reader does not know.
        NoConverter: Qualcomm's libraries are not installed.
    """
    recorder = _Recorder()
    info = qnn.Dlc(path).compose(recorder.interface, P(1), P(2))
    if recorder.failure is not None:
        raise DlcInvalid(path, f"its graph cannot be read: {recorder.failure}")
    try:
        graph = Graph(
            name=info.name.decode(),
            inputs=_names(info.inputs, info.numInputs),
            outputs=_names(info.outputs, info.numOutputs),
            operators=tuple(recorder.operators),
            tensors=recorder.tensors,
        )
    except (ValueError, AttributeError) as error:
        raise DlcInvalid(path, f"its graph cannot be read: {error}") from error
    used = [*graph.inputs, *graph.outputs, *(name for op in graph.operators for name in (*op.inputs, *op.outputs))]
    lost = next((name for name in used if name not in graph.tensors), None)
    if lost is not None:
        raise DlcInvalid(path, f"its graph cannot be read: there is no tensor {lost!r}")
    return graph


class _Recorder:
    """An interface whose functions record tensors and operators instead of building anything."""

    def __init__(self) -> None:
        self.operators: list[Operator] = []
        self.tensors: dict[str, Tensor] = {}
        self.failure: Exception | None = None
        self.interface = qnn.Interface.from_buffer_copy(qnn.backend("libQnnIr.so"))
        self._callbacks: list[Any] = []  # C holds their addresses only
        self._hook("graphCreate", self._graph_create, P, C.c_char_p, P, P)
        self._hook("graphAddNode", self._add_node, P, qnn.OpConfig)
        self._hook("graphSetConfig", lambda *_: None, P, P)
        self._hook("backendValidateOpConfig", lambda *_: None, P, qnn.OpConfig)
        for name in ("tensorCreateGraphTensor", "tensorCreateContextTensor"):
            self._hook(name, self._create_tensor, P, C.POINTER(qnn.Tensor))

    def _hook(self, name: str, action: Callable[..., None], *types: Any) -> None:
        def callback(*arguments: Any) -> int:
            try:
                action(*arguments)
            except Exception as failure:  # must not unwind into C
                self.failure = self.failure or failure
                return 1
            return 0

        self._callbacks.append(C.CFUNCTYPE(qnn.U64, *types)(callback))
        self.interface.table[qnn.INTERFACE_FUNCTIONS.index(name)] = C.cast(self._callbacks[-1], P).value

    @staticmethod
    def _graph_create(_context: Any, _name: bytes, _config: Any, out: int) -> None:
        P.from_address(out).value = 1

    def _create_tensor(self, _graph: Any, pointer: Any) -> None:
        tensor = pointer.contents
        tensor.id = len(self.tensors) + 1
        self.tensors[tensor.name.decode()] = _tensor(tensor)

    def _add_node(self, _graph: Any, op: qnn.OpConfig) -> None:
        self.operators.append(
            Operator(
                type=op.type.decode(),
                name=op.name.decode(),
                inputs=_names(op.inputs, op.numInputs),
                outputs=_names(op.outputs, op.numOutputs),
                params={op.params[i].name.decode(): _param(op.params[i]) for i in range(op.numParams)},
            )
        )
