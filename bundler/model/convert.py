"""Converts ONNX to DLC with Qualcomm's writer (libQnnIr.so), after its HTP backend has accepted each operator.

The libraries may print, or crash on odd files, so they run in a child process: `python -m bundler.model.convert`.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from bundler.dlc.onnx_sessions import quiet_options
from bundler.dlc.qnn import library_folder
from bundler.errors import ModelInvalid, NoConverter, OperatorUnsupported
from bundler.soc import Soc

LIMIT_S = 600.0
TIMESTAMP = re.compile(rb'"timestamp": "\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"')
METADATA_BYTES = 4096  # more than the writer's metadata entries take
EPOCH = b'"timestamp": "1980-01-01 00:00:00 UTC"'
STRICT = "session.disable_cpu_ep_fallback"
RECORD = "session.record_ep_graph_assignment_info"


def onnx_to_dlc(model: Path, dlc: Path, soc: Soc, *, name: str | None = None) -> None:
    """Writes `dlc` from the ONNX file `model` (`name` in messages); the same model gives the same bytes.

    Raises:
        ModelInvalid: the file is broken, or the libraries fail on it.
        OperatorUnsupported: the HTP lacks an operator of the model.
        NoConverter: Qualcomm's libraries are not installed.
    """
    library_folder()
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=dlc.parent) as folder:
        command = [
            sys.executable,
            "-P",
            "-m",
            "bundler.model.convert",
            str(model),
            folder,
            str(soc.qnn_id),
            str(soc.hexagon),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise ModelInvalid(name or model, f"no DLC within {LIMIT_S:g} s") from None
        _judge(name or model, Path(folder), done)
        written = next(Path(folder).glob("*.dlc"))
        _fix_timestamps(written)
        written.rename(dlc)


def _judge(model: Path | str, folder: Path, done: "subprocess.CompletedProcess[str]") -> None:
    """Raises an error for the child's verdict, or for its crash."""
    report = folder / "verdict.json"
    if not report.exists():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelInvalid(model, f"the converter died with code {done.returncode}: {last}")
    verdict = json.loads(report.read_text(encoding="utf-8"))
    if verdict.get("unsupported"):
        raise OperatorUnsupported(model, [tuple(node) for node in verdict["unsupported"]])
    if "missing" in verdict:
        raise NoConverter(verdict["missing"])
    if "error" in verdict:
        raise ModelInvalid(model, verdict["error"])


def _fix_timestamps(dlc: Path) -> None:
    """Replaces the writer's timestamps by a fixed one of equal length: the same input gives the same bytes."""
    with zipfile.ZipFile(dlc) as entries:
        offsets = [entry.header_offset for entry in entries.infolist() if entry.filename.startswith("dlc.metadata")]
    with dlc.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            head = file.read(METADATA_BYTES)
            file.seek(offset)
            file.write(TIMESTAMP.sub(EPOCH, head))


def _child(model: str, folder: str, soc_model: str, hexagon: str) -> dict[str, object]:
    import onnxruntime as ort
    import onnxruntime_qnn

    libraries = library_folder()
    ort.register_execution_provider_library("QNNExecutionProvider", onnxruntime_qnn.get_library_path())
    device = next((d for d in ort.get_ep_devices() if d.ep_name == "QNNExecutionProvider"), None)
    if device is None:
        return {"missing": "onnxruntime does not accept onnxruntime-qnn"}
    graph = Path(model).read_bytes()  # not the path: it would enter the graph's name, and so the DLC's bytes
    provider = {
        "backend_path": str(libraries / "libQnnHtp.so"),
        "soc_model": soc_model,
        "htp_arch": hexagon,
        "qnn_ir_backend_path": str(libraries / "libQnnIr.so"),
        "dump_qnn_ir_dlc": "1",
        "dump_qnn_ir_dlc_dir": folder,
    }

    def session(setting: str) -> ort.InferenceSession:
        options = quiet_options()
        options.add_session_config_entry(setting, "1")
        options.add_provider_for_devices([device], provider)
        return ort.InferenceSession(graph, options)

    try:
        session(STRICT)
    except Exception as refused:  # ONNX Runtime's errors have no common base
        if "CPU EP" not in str(refused):
            return {"error": str(refused).splitlines()[0]}
        assignment = session(RECORD).get_provider_graph_assignment_info()
        elsewhere = [part for part in assignment if part.ep_name != "QNNExecutionProvider"]
        nodes = [(node.op_type, node.name) for part in elsewhere for node in part.get_nodes()]
        return {"unsupported": nodes, "error": "the HTP does not take the whole graph"}
    return {}


if __name__ == "__main__":
    verdict = _child(*sys.argv[1:])
    (Path(sys.argv[2]) / "verdict.json").write_text(json.dumps(verdict), encoding="utf-8", newline="\n")
    os._exit(0)  # skips the teardown of the loaded libraries
