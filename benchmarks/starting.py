"""Measures the commands that a user types first: `--help`, `--version`, `demo`."""

import subprocess
import sys
from collections.abc import Callable, Sequence

from benchmarks.ground import Ground
from benchmarks.race import Side, Sides, timed
from benchmarks.watched import OURS

BARE = """\
import typer

app = typer.Typer()


@app.command()
def greet(name: str) -> None:
    \"\"\"Say hello.\"\"\"
    print(f"Hello, {name}!")


app()
"""
ONE_QUESTION = """\
import sys
from functools import partial
from bundler import cli
from bundler.commands import demo_run
demo_run.read_squad = partial(demo_run.read_squad, limit=1)
sys.exit(cli.main())
"""
LIMIT_S = 600


def start_up(option: str) -> Callable[[Ground], Sides]:
    """Compares `mbqa-bundle OPTION` with `--help` of a Typer application with a single command."""

    def sides(ground: Ground) -> Sides:
        bare = ground.made(_bare)
        ours, peer = _typed(*OURS, option), _typed(*bare, "--help")
        ours(), peer()  # into the file cache
        return Sides(ours, peer)

    return sides


def help_alone(_: Ground) -> Sides:
    ours = _typed(*OURS, "--help")
    ours()
    return Sides(ours)


def demo(ground: Ground) -> Sides:
    """Measures `mbqa-bundle demo`; a quick race asks only one question."""
    command = ground.size(OURS, (sys.executable, "-c", ONE_QUESTION))
    return Sides(_typed(*command, "demo"))


def _bare(ground: Ground) -> Sequence[str]:
    script = ground.place("bare") / "app.py"
    script.write_text(BARE)
    return sys.executable, str(script)


def _typed(*command: str) -> Side:
    return timed(lambda: subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S))
