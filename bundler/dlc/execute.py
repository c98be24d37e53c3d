"""Executes a DLC: in float32 by ONNX Runtime, or in float16 on Qualcomm's HTP simulator for a chip."""

import ctypes as C
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bundler.dlc import qnn
from bundler.dlc.graph import read_graph
from bundler.dlc.qnn import U32, P
from bundler.errors import DlcInvalid
from bundler.types import TensorSpec

Arrays = Mapping[str, npt.NDArray[Any]]


class Network(Protocol):
    """A DLC ready to run: `execute` takes and returns arrays of the shapes and dtypes of `inputs` and `outputs`."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def execute(self, feed: Arrays) -> dict[str, npt.NDArray[Any]]: ...


class CpuNetwork:
    """The DLC's graph in float32, translated to ONNX and run by ONNX Runtime.

    Raises:
        DlcInvalid: the file is no DLC, or its graph has no translation.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        from bundler.dlc.to_onnx import to_onnx

        graph = read_graph(path)
        self.inputs = tuple(_spec(graph.tensors[name]) for name in graph.inputs)
        self.outputs = tuple(_spec(graph.tensors[name]) for name in graph.outputs)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            model = to_onnx(graph).SerializeToString()
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except DlcInvalid as refused:
            raise DlcInvalid(path, str(refused)) from refused
        except Exception as failure:  # ONNX Runtime's errors have no common base
            raise DlcInvalid(path, f"its graph does not run: {str(failure).splitlines()[0]}") from failure

    def execute(self, feed: Arrays) -> dict[str, npt.NDArray[Any]]:
        names = [spec.name for spec in self.outputs]
        return dict(zip(names, self._session.run(names, dict(feed)), strict=True))


class HtpNetwork:
    """The DLC's graph in float16 on libQnnHtp.so's simulator, for the chip with QNN's id `soc_model`.

    Raises:
        DlcInvalid: the file is no DLC, or the HTP refuses its graph.
    """

    def __init__(self, path: Path, soc_model: int) -> None:
        self._path = path
        self._interface = qnn.backend("libQnnHtp.so")
        self._backend, self._device, self._context, self._graph = P(), P(), P(), P()
        self._check("backendCreate", None, None, C.addressof(self._backend), types=(P, P, P))
        device = qnn.HtpDeviceConfig(0, 0, soc_model)
        device_config = qnn.Config(0, C.addressof(device))
        device_configs = C.cast(qnn.pointer_list(device_config), P)
        self._check("deviceCreate", None, device_configs, C.addressof(self._device), types=(P, P, P))
        context = C.addressof(self._context)
        self._check("contextCreate", self._backend, self._device, None, context, types=(P, P, P, P))

        precision = qnn.HtpGraphConfig(2, 1)
        precision_config = qnn.Config(0, C.addressof(precision))
        configs = qnn.pointer_list(precision_config)
        name = read_graph(path).name  # configurations are given by the graph's name
        self._dlc = qnn.Dlc(path)
        self._info = self._dlc.compose(
            self._interface,
            self._backend,
            self._context,
            qnn.GraphConfigInfo(1, name.encode(), C.addressof(configs)),
        )
        graph = C.addressof(self._graph)
        self._check("graphRetrieve", self._context, self._info.name, graph, types=(P, C.c_char_p, P))
        self._check("graphFinalize", self._graph, None, None, types=(P, P, P))
        self.inputs = tuple(_native_spec(self._info.inputs[i]) for i in range(self._info.numInputs))
        self.outputs = tuple(_native_spec(self._info.outputs[i]) for i in range(self._info.numOutputs))

    def _check(self, name: str, *arguments: Any, types: tuple[Any, ...]) -> None:
        code = qnn.call(qnn.function(self._interface, name), *arguments, types=types)
        if code:
            raise DlcInvalid(self._path, f"the HTP refuses it: {name} gave QNN error {code}")

    def execute(self, feed: Arrays) -> dict[str, npt.NDArray[Any]]:
        inputs = {spec.name: np.ascontiguousarray(feed[spec.name], spec.dtype) for spec in self.inputs}
        outputs = {spec.name: np.empty(spec.shape, spec.dtype) for spec in self.outputs}
        for tensors, count, arrays in (
            (self._info.inputs, self._info.numInputs, inputs),
            (self._info.outputs, self._info.numOutputs, outputs),
        ):
            for i in range(count):
                array = arrays[tensors[i].name.decode()]
                tensors[i].memType, tensors[i].data, tensors[i].size = 0, array.ctypes.data, array.nbytes
        self._check(
            "graphExecute",
            self._graph,
            C.cast(self._info.inputs, P),
            self._info.numInputs,
            C.cast(self._info.outputs, P),
            self._info.numOutputs,
            None,
            None,
            types=(P, P, U32, P, U32, P, P),
        )
        return outputs


def _spec(tensor: Any) -> TensorSpec:
    return TensorSpec(tensor.name, tensor.dtype.name, tensor.shape)


def _native_spec(tensor: qnn.Tensor) -> TensorSpec:
    return TensorSpec(tensor.name.decode(), qnn.DTYPES[tensor.dtype].name, tensor.shape)
