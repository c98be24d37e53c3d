"""Executes a DLC like SNPE's three runtimes: float32 on the CPU, float16 on the GPU, the HTP's own way on the DSP.

For the first two, ONNX Runtime runs a translation of the graph; for the third, Qualcomm's HTP simulator runs the DLC.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bundler.dlc.encoding import Encoding
from bundler.dlc.graph import Tensor, read_graph
from bundler.dlc.htp import HtpNetwork, context_name, save_context
from bundler.dlc.onnx_sessions import cpu_session
from bundler.errors import DlcInvalid
from bundler.types import TensorSpec

__all__ = ["CpuNetwork", "GpuNetwork", "HtpNetwork", "Network", "context_name", "save_context"]

Arrays = Mapping[str, npt.NDArray[Any]]


class Network(Protocol):
    """A DLC ready to run.

    `inputs` and `outputs` describe the DLC's tensors in its own dtypes; `encodings` holds those of quantized tensors by
    name. `execute` takes and returns arrays of these shapes: float32 real values for floating or fixed point in the
    DLC, integers of the DLC's dtype otherwise.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    encodings: Mapping[str, Encoding]

    def execute(self, feed: Arrays) -> dict[str, npt.NDArray[Any]]: ...


class CpuNetwork:
    """The DLC's graph in float32, translated to ONNX and run by ONNX Runtime, with quantized weights dequantized.

    Raises:
        DlcInvalid: the file is not a DLC, or its graph has no translation.
    """

    half = False

    def __init__(self, path: Path) -> None:

        from bundler.dlc.to_onnx import to_onnx

        graph = read_graph(path)
        ends = [graph.tensors[name] for name in (*graph.inputs, *graph.outputs)]
        self.inputs = tuple(_spec(graph.tensors[name]) for name in graph.inputs)
        self.outputs = tuple(_spec(graph.tensors[name]) for name in graph.outputs)
        self.encodings: Mapping[str, Encoding] = {t.name: t.encoding for t in ends if t.encoding is not None}
        self._real = {tensor.name for tensor in ends if tensor.is_real}
        try:
            model = to_onnx(graph, half=self.half).SerializeToString()
            # an optimizer might remove pairs of casts
            self._session = cpu_session(model, optimize="nothing" if self.half else "all")
        except DlcInvalid as refused:
            raise DlcInvalid(path, str(refused)) from refused
        except Exception as failure:  # ONNX Runtime's errors have no common base
            raise DlcInvalid(path, f"its graph does not run: {str(failure).splitlines()[0]}") from failure

    def execute(self, feed: Arrays) -> dict[str, npt.NDArray[Any]]:
        names = [spec.name for spec in self.outputs]
        given = {
            spec.name: np.asarray(feed[spec.name], np.float32 if spec.name in self._real else spec.dtype)
            for spec in self.inputs
        }
        return dict(zip(names, self._session.run(names, given), strict=True))


class GpuNetwork(CpuNetwork):
    """The DLC's graph in float16: like CpuNetwork, with the result of each operator rounded to float16."""

    half = True


def _spec(tensor: Tensor) -> TensorSpec:
    return TensorSpec(tensor.name, tensor.dtype.name, tensor.shape)
