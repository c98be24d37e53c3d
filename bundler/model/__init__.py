"""ONNX in, DLC out."""
