"""Measures the tests' branch coverage of bundler/, including child processes and forks of the virtual phone's shell.

    python -m tools.branches [--again] [TEST FILES...] [-k EXPRESSION] [-m EXPRESSION]

Runs all test files, or the named ones, in two processes, and prints the report of coverage.py with the settings in
pyproject.toml. Processes of a virtual phone leave separate files, thousands in total, which are combined after each
TOGETHER test files. --again adds to the data of an earlier run. Exit code 1: a test failed; 2: less than 95 % of the
lines and branches.

`pip install -e '.[test,quality]'` before. `-m "not slow"` took 12 minutes, and 5 without coverage: virtual phones are
several times as slow, so that a test that gives one a tenth of a second may fail.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOGETHER = 34  # test files
COVERAGE = (sys.executable, "-m", "coverage")
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile")
NO_TESTS = 5  # pytest's exit code


def main() -> int:
    options = argparse.ArgumentParser(description="branch coverage of bundler/ by the tests")
    options.add_argument("files", nargs="*", help="test files; all without one")
    options.add_argument("--again", action="store_true", help="add to what an earlier run found")
    options.add_argument("-k", metavar="EXPRESSION", help="as pytest takes it")
    options.add_argument("-m", metavar="EXPRESSION", help="as pytest takes it")
    asked = options.parse_args()
    if not asked.again:
        shutil.rmtree(ROOT / ".coverage", ignore_errors=True)
    chosen = [word for flag in ("k", "m") if getattr(asked, flag) for word in (f"-{flag}", getattr(asked, flag))]
    files = asked.files or sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py"))
    failed = False
    for begin in range(0, len(files), TOGETHER):
        code = _run("run", *PYTEST, *chosen, *files[begin : begin + TOGETHER])
        failed = failed or code not in (0, NO_TESTS)
        _run("combine", "-q", "--append")
    enough = _run("report") == 0
    return 1 if failed else 0 if enough else 2


def _run(*argv: str) -> int:
    return subprocess.run([*COVERAGE, *argv], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
