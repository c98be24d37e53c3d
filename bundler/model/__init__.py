"""Converts ONNX models to DLCs."""
