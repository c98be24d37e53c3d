"""MobileBERT question answering on Snapdragon phones: build a bundle, run it there, fetch the answers."""

__version__ = "0.1.0"
