"""Reads and executes DLCs through the QNN C interface."""
