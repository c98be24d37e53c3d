"""Fuzzes the readers of foreign data.

    python -m tests.fuzz --list
    python -m tests.fuzz [TARGET...] [--seconds 60] [--jobs 2] [--out fuzz-findings] [--seed 1]

Each target (targets.py) is a function of bytes that must return, or raise an error for users (of bundler/errors.py,
except its root, which means a bug). Any other exception, a crash, more than 15 s for one input and more than 2 GiB of
memory are findings. Each target runs in a separate process for SECONDS, guided by coverage of `bundler` if atheris is
installed (`pip install -e '.[fuzz]'`); otherwise, and if the code under test is not Python, by mutations of the corpus
only. A seed gives the same inputs in the same order, as far as the time allows: .ci/run uses one, so that findings
depend on the change and not on luck. Prints the number of executions of each target; the exit code is 1 if there was a
finding.

Failing inputs are in OUT/TARGET/findings, their messages in OUT/TARGET/log. To reproduce one:

    python -c "from tests.fuzz.targets import check; check('TARGET', open('FILE', 'rb').read())"

Then fix `bundler`, and keep the input, minimized, as tests/fuzz/corpus/TARGET/WHAT_IT_WAS: tests/test_fuzz.py runs
every file there. New inputs in OUT/TARGET/corpus are not kept, but start a longer run with the same --out. A new reader
of foreign data needs a function in one of the files here, a line in targets.py, and a valid input or two in its corpus.
"""

import argparse
import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

START_S = 120  # for imports and the corpus, on a busy machine
LAST_LINES = 25
STATISTIC = re.compile(r"^stat::number_of_executed_units: (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """The result of a target: `found` is a failing input, or the cause of the process's death."""

    target: str
    executions: int
    seconds: float
    found: str
    log: Path


def fuzz(target: str, seconds: int, out: Path, *, plain: bool, seed: int | None = None) -> Outcome:
    """Fuzzes a target in a separate process."""
    folder = out / target
    folder.mkdir(parents=True, exist_ok=True)
    findings = folder / "findings"
    before = set(findings.glob("*"))
    (folder / "executions").unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.engine", target, str(seconds), str(folder)]
    command += ["--plain"] * plain + (["--seed", str(seed)] if seed is not None else [])
    fixed = {} if seed is None else {"PYTHONHASHSEED": "0"}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mbqa-fuzz-") as temporary, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, **fixed, "TMPDIR": temporary}, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(seconds + START_S)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    failed = sorted(set(findings.glob("*")) - before)
    found = ", ".join(map(str, failed)) or (f"exit code {code}, no input" if code else "")
    counted = folder / "executions"
    counts = STATISTIC.findall((folder / "log").read_text(errors="replace"))
    executions = int(counts[-1] if counts else counted.read_text() if counted.exists() else 0)
    return Outcome(target, executions, time.monotonic() - began, found, folder / "log")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns exit code 1 if a target failed."""
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(
        "python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--list", action="store_true", help="show the targets")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time (2)")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="folder for findings (fuzz-findings)")
    parser.add_argument("--seed", type=int, help="the same inputs each time (another seed each time)")
    parser.add_argument("--plain", action="store_true", help="without atheris, also where it is installed")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no target {unknown[0]}; there are {', '.join(TARGETS)}")
    if arguments.list:
        print(*(f"{name:16} {target.run.__doc__}".splitlines()[0] for name, target in TARGETS.items()), sep="\n")
        return 0
    guided = not arguments.plain and importlib.util.find_spec("atheris") is not None
    print("guided by coverage, by atheris" if guided else "without atheris: changes to the corpus alone")

    def run(name: str) -> Outcome:
        plain = not (guided and TARGETS[name].guided)
        return fuzz(name, arguments.seconds, arguments.out, plain=plain, seed=arguments.seed)

    failed = False
    with ThreadPoolExecutor(arguments.jobs) as threads:
        for outcome in threads.map(run, arguments.targets or TARGETS):
            failed = failed or bool(outcome.found)
            print(f"{outcome.target:16} {outcome.executions:>9} executions in {outcome.seconds:5.0f} s", outcome.found)
            if outcome.found:
                lines = outcome.log.read_text(errors="replace").splitlines()
                print(*(f"    {line}" for line in lines[-LAST_LINES:]), sep="\n")
            sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
