"""Tests quantization encodings: by tensor, by axis, with fewer bits than their dtype; invalid ones are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bundler.dlc import qnn
from bundler.dlc.encoding import Encoding, widen
from bundler.dlc.execute import CpuNetwork, GpuNetwork, HtpNetwork
from bundler.dlc.graph import Operator, Tensor, encoding_of, read_graph
from tests.dlcs import HIDDEN, SOC, convert, likeness, quantized, reference, run_single, single
from tests.models import model

PER_AXIS = Encoding((0.5, 2.0), (0, -3), 8, axis=1)


def test_encodings_by_tensor_and_by_axis() -> None:
    stored = np.array([[1, 2], [-128, 127]], np.int8)
    assert PER_AXIS.dequantize(stored).tolist() == [[0.5, -2], [-64, 248]]
    assert PER_AXIS.quantize(PER_AXIS.dequantize(stored), stored.dtype).tolist() == stored.tolist()
    whole = Encoding((0.1,), (-128,), 8)
    assert whole.quantize(np.array([-99, 0, 0.26, 99]), np.uint8).tolist() == [0, 128, 131, 255]
    assert not whole.is_never_negative(np.uint8)
    assert Encoding((0.1,), (0,), 16).is_never_negative(np.uint16)
    assert not Encoding((0.1,), (0,), 8).is_never_negative(np.int8)


def test_four_bits_in_a_byte_get_their_sign_back() -> None:
    assert widen(np.array([0x0F, 0x07, 0x08], np.int8), 4).tolist() == [-1, 7, -8]
    assert widen(np.array([-1, 7], np.int8), 8).tolist() == [-1, 7]
    assert widen(np.array([15], np.uint8), 4).tolist() == [15]


def test_a_weight_by_axis_is_dequantized_along_it() -> None:
    weight = Tensor("w", np.dtype(np.int8), (2, 2), np.array([[1, 2], [3, 4]], np.int8), PER_AXIS)
    op = Operator("ElementWiseBinary", "add", ("a", "w"), ("out",), {"operation": 0})
    assert run_single(single(op, (2, 2), w=weight), np.zeros((2, 2))).tolist() == [[0.5, -2], [1.5, 2]]


def by_channel(folder: Path, kind: str, **options: Any) -> tuple[onnx.ModelProto, dict[str, Any], Path]:
    """Returns layers whose weights differ much between channels, inputs for them, and their quantized DLC."""
    random = np.random.default_rng(0)
    sizes = np.geomspace(0.01, 1, HIDDEN)
    weights = {
        "w": random.normal(size=(HIDDEN, HIDDEN)) * sizes,
        "b": np.ones(HIDDEN),
        "v": random.normal(size=(8, HIDDEN)),
        "c": np.ones(8),
    }
    node = onnx.helper.make_node
    nodes = [
        node("Gemm", ["a", "w", "b"], ["x"]),
        node("Relu", ["x"], ["y"]),
        node("Gemm", ["y", "v", "c"], ["out"], transB=1),
    ]
    ends = {"a": (onnx.TensorProto.FLOAT, [6, HIDDEN])}, {"out": (onnx.TensorProto.FLOAT, [6, 8])}
    made = model(nodes, *ends, {name: value.astype(np.float32) for name, value in weights.items()})
    onnx.save(made, folder / "float.onnx")
    feeds = [{"a": random.normal(size=(6, HIDDEN)).astype(np.float32)} for _ in range(4)]
    qdq = quantized(folder / "float.onnx", feeds, kind, folder, **options)
    return made, feeds[0], convert(qdq, folder)


def test_a_dlc_quantized_by_axis_runs_on_every_runtime(tmp_path: Path) -> None:
    made, feed, dlc = by_channel(tmp_path, "w8a16", per_channel=True)
    weights = [t for t in read_graph(dlc).tensors.values() if t.data is not None and t.encoding is not None]
    assert {(t.dtype.name, t.encoding.axis, len(t.encoding.scales)) for t in weights if t.encoding} == {
        ("int8", 0, HIDDEN), ("int8", 0, 8), ("int32", 0, HIDDEN), ("int32", 0, 8)
    }  # fmt: skip
    expected = reference(made, feed)["out"]
    for network in (CpuNetwork(dlc), GpuNetwork(dlc), HtpNetwork(dlc, SOC.qnn_id)):
        assert np.abs(network.execute(feed)["out"] - expected).max() < np.ptp(expected) / 100


@pytest.mark.parametrize("per_channel", [False, True])
def test_weights_of_four_bits_are_what_the_dsp_takes_them_for(tmp_path: Path, per_channel: bool) -> None:
    made, feed, dlc = by_channel(tmp_path, "w4a16", per_channel=per_channel)
    weights = [t for t in read_graph(dlc).tensors.values() if t.data is not None and t.dtype == np.int8]
    assert [t.encoding.bits for t in weights if t.encoding] == [4, 4]
    assert all(np.abs(np.asarray(t.data, int)).max() <= 8 for t in weights)
    on_dsp = HtpNetwork(dlc, SOC.qnn_id).execute(feed)["out"]
    assert np.abs(CpuNetwork(dlc).execute(feed)["out"] - on_dsp).max() < np.ptp(on_dsp) / 500
    assert likeness(on_dsp, reference(made, feed)["out"]) > 0.9


def raw_tensor(kind: int, *, dtype: int = 0x0308, **value: Any) -> qnn.Tensor:
    """Returns a tensor (2, 3) as the libraries describe it, with quantization encoding `kind`."""
    tensor = qnn.Tensor(name=b"x", dtype=dtype, rank=2, dims=(qnn.U32 * 2)(2, 3))
    tensor.quantize.definition, tensor.quantize.encoding = qnn.DEFINED, kind
    for name, fields in value.items():
        for key, content in fields.items():
            setattr(getattr(tensor.quantize.value, name), key, content)
    return tensor


def test_encodings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="'x' has quantization encoding 4, which is not known"):
        encoding_of(raw_tensor(4))
    with pytest.raises(ValueError, match="has 5 scales along axis 1"):
        encoding_of(raw_tensor(qnn.PER_AXIS, perAxis={"axis": 1, "count": 5}))
    with pytest.raises(ValueError, match="has 3 scales along axis 7"):
        encoding_of(raw_tensor(qnn.BW_PER_AXIS, bwPerAxis={"axis": 7, "count": 3}))
    with pytest.raises(ValueError, match="has 9 bits in an element of 8"):
        encoding_of(raw_tensor(qnn.BW_PER_TENSOR, bwPerTensor={"bits": 9, "scale": 1.0}))
    with pytest.raises(ValueError, match="data type 0x0999 is not known"):
        encoding_of(raw_tensor(qnn.PER_TENSOR, dtype=0x0999))
