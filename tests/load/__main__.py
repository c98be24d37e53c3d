"""Runs `python -m tests.load`; the package's docstring describes it."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tests.load
from benchmarks.machine import made_by
from tests.load.clients import ask_at_once
from tests.load.many import ask_many
from tests.load.rounds import go_round

NAMES = ("questions", "rounds", "clients")


def main() -> int:
    """Prints figures as they arrive; returns exit code 1 if something grew, was lost or was wrong."""
    parser = argparse.ArgumentParser(description=tests.load.__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME")
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    chosen = options.names or NAMES
    jobs: list[tuple[str, str, Callable[[Path], Any]]] = [
        ("questions", "questions", lambda folder: ask_many(folder, options.questions)),
        ("rounds", "rounds", lambda folder: go_round(folder, options.rounds)),
        ("clients", "clients, one server", lambda folder: ask_at_once(folder, options.clients, shared_server=True)),
        ("clients", "clients, own servers", lambda folder: ask_at_once(folder, options.clients, shared_server=False)),
    ]
    failed, documents = False, {}
    out = sys.stderr if options.json else sys.stdout
    for group, title, job in jobs:
        if group not in chosen:
            continue
        with tempfile.TemporaryDirectory(prefix="mbqa-load-") as folder:
            result = job(Path(folder))
        failures = [f"  FAILED: {failure}" for failure in result.failures]
        print("\n".join([*result.lines, *failures]), file=out, flush=True)
        failed = failed or bool(failures)
        documents[title] = asdict(result)
    print(made_by("tests.load"), file=out)
    if options.json:
        json.dump(documents, sys.stdout, indent=1)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
