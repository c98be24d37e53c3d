"""Fuzzing of everything that reads what others made. How to run it: __main__.py."""
