"""Creates silent ONNX Runtime sessions on the CPU; problems are raised as exceptions."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import onnxruntime


def quiet_options() -> "onnxruntime.SessionOptions":
    """Returns session options without logging, whose threads sleep while they wait. With the default spinning, two
    sessions at once on two cores take three times as long, and a single one is no faster."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def cpu_session(
    model: bytes | Path, *, optimize: Literal["all", "basic", "nothing"] = "all", optimized: Path | None = None
) -> "onnxruntime.InferenceSession":
    """Opens a session of an ONNX model, given as a file or as its bytes.

    optimized: a file to which ONNX Runtime writes the optimized model.

    Raises:
        Exception: ONNX Runtime refuses the model. Its errors have no common base.
    """
    import onnxruntime

    level = onnxruntime.GraphOptimizationLevel
    options = quiet_options()
    options.graph_optimization_level = {
        "all": level.ORT_ENABLE_ALL, "basic": level.ORT_ENABLE_BASIC, "nothing": level.ORT_DISABLE_ALL,
    }[optimize]  # fmt: skip
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
