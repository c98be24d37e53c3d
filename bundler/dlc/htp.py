"""Qualcomm's HTP compiler and simulator for a chip: runs a DLC, or compiles it ahead of time (to a "context")."""

import ctypes as C
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bundler.dlc import qnn
from bundler.dlc.encoding import Encoding
from bundler.dlc.graph import encoding_of, read_graph
from bundler.dlc.qnn import U32, U64, P
from bundler.errors import DlcInvalid, FileUnreadable
from bundler.types import TensorSpec

Arrays = Mapping[str, npt.NDArray[Any]]
LIBRARY = "libQnnHtp.so"
FOLDER = "htp"


def context_name(soc_name: str, dlc_sha256: str) -> str:
    """Returns the path, relative to a DLC's folder, of the context that was prepared from it for a chip."""
    return f"{FOLDER}/{soc_name}-{dlc_sha256[:16]}.bin"


class HtpNetwork:
    """A DLC on libQnnHtp.so's simulator of the chip with QNN's id `soc_model`.

    It computes quantized tensors as integers, and floating-point ones in float16. `prepared` is a file written by
    `save_context` for the same DLC and chip, to use instead of compiling the DLC. `execute` takes and returns float32
    real values for floating or fixed point in the DLC, and integers unchanged.

    Raises:
        DlcInvalid: the file is not a DLC or no context, or the HTP refuses its graph.
        FileUnreadable: `prepared` cannot be read.
    """

    def __init__(self, path: Path, soc_model: int, prepared: Path | None = None) -> None:
        self._path = path if prepared is None else prepared
        self._interface = qnn.backend(LIBRARY)
        self._backend, self._device, self._context, self._graph = P(), P(), P(), P()
        self._check("backendCreate", None, None, C.addressof(self._backend), types=(P, P, P))
        device = qnn.HtpDeviceConfig(0, 0, soc_model)
        device_config = qnn.Config(0, C.addressof(device))
        device_configs = C.cast(qnn.pointer_list(device_config), P)
        self._check("deviceCreate", None, device_configs, C.addressof(self._device), types=(P, P, P))
        self._info = self._compose(path) if prepared is None else self._restore(prepared)
        graph = C.addressof(self._graph)
        self._check("graphRetrieve", self._context, self._info.name, graph, types=(P, C.c_char_p, P))
        if prepared is None:
            self._check("graphFinalize", self._graph, None, None, types=(P, P, P))
        # copies, since the libraries own and free the originals
        self._taken = _copies(self._info.inputs, self._info.numInputs)
        self._given = _copies(self._info.outputs, self._info.numOutputs)
        self.inputs = tuple(_spec(tensor) for tensor in self._taken)
        self.outputs = tuple(_spec(tensor) for tensor in self._given)
        self.encodings: Mapping[str, Encoding] = _encodings(self._path, [*self._taken, *self._given])

    def _check(self, name: str, *arguments: Any, types: tuple[Any, ...]) -> None:
        code = qnn.call(qnn.function(self._interface, name), *arguments, types=types)
        if code:
            raise DlcInvalid(self._path, f"the HTP refuses it: {name} gave QNN error {code}")

    def _compose(self, path: Path) -> qnn.GraphInfo:
        """Builds the DLC's graph in a new context. The configuration affects floating-point tensors only."""
        context = C.addressof(self._context)
        self._check("contextCreate", self._backend, self._device, None, context, types=(P, P, P, P))
        precision = qnn.HtpGraphConfig(2, 1)
        precision_config = qnn.Config(0, C.addressof(precision))
        configs = qnn.pointer_list(precision_config)
        name = read_graph(path).name  # configurations refer to the graph's name
        chosen = qnn.GraphConfigInfo(1, name.encode(), C.addressof(configs))
        self._dlc = qnn.Dlc(path)
        try:
            return self._dlc.compose(self._interface, self._backend, self._context, chosen)
        except DlcInvalid as refused:  # the DLC is readable, so the chip does not support part of its graph
            raise DlcInvalid(path, "the HTP refuses it: it does not take an operator at this precision") from refused

    def _restore(self, prepared: Path) -> qnn.GraphInfo:
        """Restores the graph from a context made earlier."""
        try:
            self._binary = prepared.read_bytes()
        except OSError as error:
            raise FileUnreadable(prepared, error.strerror or str(error)) from error
        self._contents = qnn.ContextBinary(prepared, self._binary)
        self._check(
            "contextCreateFromBinary",
            self._backend,
            self._device,
            None,
            self._binary,
            len(self._binary),
            C.addressof(self._context),
            None,
            types=(P, P, P, C.c_char_p, U64, P, P),
        )
        graph: qnn.GraphInfo = self._contents.graph
        return graph

    def binary(self) -> bytes:
        """Returns the compiled graph, to be written to a file."""
        size = U64()
        self._check("contextGetBinarySize", self._context, C.addressof(size), types=(P, P))
        buffer, written = (C.c_uint8 * size.value)(), U64()
        self._check(
            "contextGetBinary",
            self._context,
            C.addressof(buffer),
            size.value,
            C.addressof(written),
            types=(P, P, U64, P),
        )
        return bytes(memoryview(buffer)[: written.value])

    def execute(self, feed: Arrays) -> dict[str, npt.NDArray[Any]]:
        inputs = {spec.name: self._native(spec, feed[spec.name]) for spec in self.inputs}
        outputs = {spec.name: np.empty(spec.shape, spec.dtype) for spec in self.outputs}
        for tensors, arrays in ((self._taken, inputs), (self._given, outputs)):
            for tensor in tensors:
                array = arrays[tensor.name.decode()]
                tensor.memType, tensor.data, tensor.size = 0, array.ctypes.data, array.nbytes
        self._check(
            "graphExecute",
            self._graph,
            C.cast(self._taken, P),
            len(self._taken),
            C.cast(self._given, P),
            len(self._given),
            None,
            None,
            types=(P, P, U32, P, U32, P, P),
        )
        return {name: self._real(name, array) for name, array in outputs.items()}

    def _native(self, spec: TensorSpec, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        encoding = self.encodings.get(spec.name)
        return np.ascontiguousarray(values if encoding is None else encoding.quantize(values, spec.dtype), spec.dtype)

    def _real(self, name: str, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        encoding = self.encodings.get(name)
        if encoding is not None:
            return encoding.dequantize(stored)
        return stored.astype(np.float32) if stored.dtype.kind == "f" else stored


def save_context(dlc: Path, soc_model: int, out: Path) -> None:
    """Compiles the DLC for a chip and writes the context, for use by `HtpNetwork`.

    Raises:
        DlcInvalid: the file is not a DLC, or the HTP refuses its graph.
        OSError: `out` cannot be written.
    """
    draft = out.with_name(f".{out.name}.draft")
    try:
        draft.write_bytes(HtpNetwork(dlc, soc_model).binary())
        draft.rename(out)
    finally:
        draft.unlink(missing_ok=True)


def _spec(tensor: qnn.Tensor) -> TensorSpec:
    return TensorSpec(tensor.name.decode(), qnn.DTYPES[tensor.dtype].name, tensor.shape)


def _copies(tensors: Any, count: int) -> Any:
    """Returns our own copies of the tensors; they share the libraries' pointers to names, dimensions and scales."""
    copies = (qnn.Tensor * count)()
    C.memmove(copies, tensors, C.sizeof(copies))
    return copies


def _encodings(path: Path, tensors: list[qnn.Tensor]) -> dict[str, Encoding]:
    try:
        found = {tensor.name.decode(): encoding_of(tensor) for tensor in tensors}
    except ValueError as error:
        raise DlcInvalid(path, str(error)) from error
    return {name: encoding for name, encoding in found.items() if encoding is not None}
