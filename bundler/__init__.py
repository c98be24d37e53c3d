"""MobileBERT question answering on Snapdragon phones: build a bundle, run it there, fetch the answers.

The names in `__all__` are the library; docs/library.md shows their use. They are imported on first use.
"""

import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "AdbServer": "device.phone",
    "BuildRequest": "pipeline.build",
    "BundlerError": "errors",
    "DeployRequest": "pipeline.deploy",
    "EvaluateRequest": "pipeline.evaluate",
    "FetchRequest": "pipeline.fetch",
    "Recipe": "model.make",
    "build_bundle": "pipeline.build",
    "deploy_bundle": "pipeline.deploy",
    "evaluate_bundles": "pipeline.evaluate",
    "fetch_answers": "pipeline.fetch",
    "open_questions": "qa.questions",
}
__all__ = [*_PUBLIC]  # noqa: PLE0604  (__init__.pyi spells them out)

# ONNX Runtime would otherwise send telemetry and leave a session file behind: nothing may leave this computer
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
