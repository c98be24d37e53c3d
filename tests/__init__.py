"""Sets the environment of processes that tests start, before any other import."""

import os
import sys

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # there are more workers than cores
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # tests start thousands of processes: bytecode saves their compiling
sys.dont_write_bytecode = False
