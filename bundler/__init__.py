"""MobileBERT question answering on Snapdragon phones: build a bundle, run it there, fetch the answers."""

import os

__version__ = "0.1.0"

# ONNX Runtime would otherwise report home and leave a session file behind: nothing leaves the user's machine from here
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
