"""Tests graphs of any exporter fitted for the HTP: the same logits, int32 inputs, one finite additive mask."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bundler.errors import ModelInvalid, OperatorUnsupported
from bundler.model.calibrate import measure_mask
from bundler.model.convert import onnx_to_dlc
from bundler.model.graph import FitGraph, fit_for_htp, largest_difference
from bundler.model.half import in_float16
from bundler.model.mask import LARGEST_SIZE, SIZE, set_mask_size
from bundler.model.onnx_graph import Net
from bundler.soc import DEFAULT, known_socs
from tests import styles

TOKENS = (styles.LENGTH, 30, 5)
CLOSE = 1e-4
KNOWN = set(
    "Add Cast Concat Gather Gelu Gemm LayerNormalization MatMul Mul Pad Relu Reshape Slice Softmax Split Squeeze Sub "
    "Transpose".split()
)


def fit_of(made: onnx.ModelProto) -> FitGraph:
    return fit_for_htp(made, styles.LENGTH)


def check(made: onnx.ModelProto, fit: FitGraph) -> None:
    """Checks that logits are equal on padded and unpadded windows, and not trivial."""
    difference, largest = largest_difference(made, fit, styles.feeds_for(made, *TOKENS))
    assert difference < CLOSE
    assert largest > 0.5


@pytest.mark.parametrize("mask", styles.MASKS)
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_every_style_keeps_its_logits(mask: str, norm: styles.Norm) -> None:
    made = styles.styled(mask, norm=norm)
    fit = fit_of(made)
    check(made, fit)
    set_mask_size(fit.model, measure_mask(fit, styles.feeds_for(made, *TOKENS)))
    check(made, fit)
    assert {node.op_type for node in fit.model.graph.node} <= KNOWN
    assert all(value.type.tensor_type.elem_type == TensorProto.INT32 for value in fit.model.graph.input)
    assert {spec.shape for spec in (*fit.inputs, *fit.outputs)} == {(1, styles.LENGTH)}
    assert len(fit.masked_scores) == (0 if mask == "none" else 2)


def test_a_model_with_two_inputs_keeps_two() -> None:
    made = styles.styled("optimum", segments=False)
    fit = fit_of(made)
    assert [spec.name for spec in fit.inputs] == ["input_ids", "attention_mask"]
    check(made, fit)


def test_the_mask_follows_the_scores_and_a_soft_one_stays() -> None:
    hard, soft = fit_of(styles.styled("optimum")), fit_of(styles.styled("soft"))
    for fit in (hard, soft):
        given = styles.feeds_for(fit.model, *TOKENS)
        set_mask_size(fit.model, measure_mask(fit, given))
    sizes = [float(Net(fit.model).constants[SIZE]) for fit in (hard, soft)]
    assert 20 < sizes[0] < 200 < LARGEST_SIZE
    assert sizes[1] == 10  # what its exporter takes from a padded score, which the logits show


def test_constants_are_folded_into_weights() -> None:
    made = styles.styled("ours")
    counts = {kind: sum(node.op_type == kind for node in fit_of(made).model.graph.node) for kind in ("Mul", "Add")}
    before = {kind: sum(node.op_type == kind for node in made.graph.node) for kind in ("Mul", "Add")}
    assert counts["Mul"] < before["Mul"]
    assert counts["Add"] < before["Add"] / 2


@pytest.mark.parametrize("mask", styles.REFUSED)
def test_a_mask_without_additive_meaning_is_refused(mask: str) -> None:
    with pytest.raises(ModelInvalid, match="attention_mask is used in a way"):
        fit_of(styles.styled(mask))


def test_an_old_opset_and_foreign_operators_are_refused() -> None:
    old = styles.styled("ours")
    old.opset_import[0].version = 7
    with pytest.raises(ModelInvalid, match="opset 7 is too old"):
        fit_of(old)
    foreign = styles.styled("ours")
    foreign.graph.node[3].domain = "com.microsoft"
    with pytest.raises(ModelInvalid, match=r"operators of com\.microsoft"):
        fit_of(foreign)


@pytest.mark.parametrize("mask", ["ours", "where_inf"])
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_the_htp_takes_it_in_float16(mask: str, norm: styles.Norm, tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    onnx.save(in_float16(fit_of(styles.styled(mask, norm=norm))), path)
    onnx_to_dlc(path, tmp_path / "half.dlc", known_socs()[DEFAULT])
    assert (tmp_path / "half.dlc").stat().st_size > 1000


def test_a_weight_beyond_float16_is_refused() -> None:
    made = styles.styled("ours")
    table = next(tensor for tensor in made.graph.initializer if list(tensor.dims) == [styles.WORDS, 8])
    table.CopyFrom(onnx.numpy_helper.from_array(np.full([styles.WORDS, 8], 1e5, np.float32), table.name))
    with pytest.raises(ModelInvalid, match="does not fit float16"):
        in_float16(fit_of(made))


def test_an_operator_that_the_htp_lacks_is_named_before_anything_is_calibrated(tmp_path: Path) -> None:
    made = styles.styled("ours")
    relu = next(node for node in made.graph.node if node.op_type == "Relu")
    relu.CopyFrom(helper.make_node("Sinh", list(relu.input), list(relu.output), name="odd_one"))
    path = tmp_path / "fit.onnx"
    onnx.save(fit_of(made).model, path)
    with pytest.raises(OperatorUnsupported, match="Sinh"):
        onnx_to_dlc(path, tmp_path / "fit.dlc", known_socs()[DEFAULT])
