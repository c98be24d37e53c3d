"""Runs the peer of our DLC writing: a bare ONNX Runtime session on onnxruntime-qnn, whose IR backend writes it.

python -m benchmarks.bare_session MODEL.onnx FOLDER SOC_MODEL HEXAGON
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before ONNX Runtime is first imported


def main(model: str, folder: str, soc_model: str, hexagon: str) -> None:
    import onnxruntime
    import onnxruntime_qnn

    library = onnxruntime_qnn.get_library_path()
    onnxruntime.register_execution_provider_library("QNNExecutionProvider", library)
    device = next(each for each in onnxruntime.get_ep_devices() if each.ep_name == "QNNExecutionProvider")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_provider_for_devices(
        [device],
        {
            "backend_path": str(Path(library).with_name("libQnnHtp.so")),
            "soc_model": soc_model,
            "htp_arch": hexagon,
            "qnn_ir_backend_path": str(Path(library).with_name("libQnnIr.so")),
            "dump_qnn_ir_dlc": "1",
            "dump_qnn_ir_dlc_dir": folder,
        },
    )
    onnxruntime.InferenceSession(model, options)


if __name__ == "__main__":
    main(*sys.argv[1:])
