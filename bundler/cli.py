"""Runs the command line and turns errors into messages and exit codes."""

import os
import signal
import sys
from collections.abc import Sequence
from copy import copy
from io import TextIOWrapper
from typing import Annotated

import typer
from typer.models import CommandInfo

from bundler import __version__
from bundler.commands.options import app
from bundler.console import show_error
from bundler.errors import BundlerError, GateFailed, HostStorageFailed

# each adds its commands; `--help` shows them in this order
# isort: off
from bundler.commands import make, run, simulate, ask, judge, look, sdk, cluster, phones  # noqa: F401
# isort: on


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"mbqa-bundle {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


SYNONYMS = {
    "--runtime": {"npu": "dsp", "htp": "dsp"},
    "--precision": {"int8": "w8a8", "float16": "fp16", "float32": "fp32"},
}
"""Other tools' words for the values of these options."""


def _usual(argv: Sequence[str]) -> list[str]:
    """Replaces synonyms of values in the command line."""
    usual: list[str] = []
    for word in argv:
        option, equals, value = word.partition("=")
        if equals and option in SYNONYMS:
            usual.append(f"{option}={SYNONYMS[option].get(value, value)}")
        else:
            known = SYNONYMS.get(usual[-1], {}) if usual else {}
            usual.append(known.get(word, word))
    return usual


def _name_of(command: CommandInfo) -> str:
    return command.name or getattr(command.callback, "__name__", "").replace("_", "-")


def _without_parameters(command: CommandInfo) -> CommandInfo:
    def nothing() -> None: ...

    nothing.__name__, nothing.__doc__ = _name_of(command), command.callback.__doc__
    spared = copy(command)
    spared.callback = nothing
    return spared


def _application(words: Sequence[str]) -> typer.Typer:
    """Returns the application without the parameters of commands that are not typed; Typer would read them all."""
    if any(name.endswith("_COMPLETE") for name in os.environ):  # for a shell's completion
        return app
    some = copy(app)
    some.registered_commands = [
        info if _name_of(info) in words else _without_parameters(info) for info in app.registered_commands
    ]
    return some


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; returns its exit code. The only place where errors become messages."""
    if argv is None:  # a separate process: its children must end with it
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # characters that the encoding lacks must not be an error
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    words = sys.argv[1:] if argv is None else argv
    try:
        _application(words)(args=_usual(words), prog_name="mbqa-bundle")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except BundlerError as error:
        # a failed gate's result has been printed: --json promises one document
        show_error(error, as_json="--json" in words and not isinstance(error, GateFailed))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        failure = HostStorageFailed(error.filename or "this machine", error.strerror or str(error))
        show_error(failure, as_json="--json" in words)
        return HostStorageFailed.exit_code
    except Exception as error:
        if os.environ.get("MBQA_TRACEBACK"):
            raise
        defect = BundlerError(f"internal error: {type(error).__name__}: {error} (MBQA_TRACEBACK=1 shows where)")
        show_error(defect, as_json="--json" in words)
        return BundlerError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
