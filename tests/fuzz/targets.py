"""Lists all targets: functions of bytes that return, or raise an error for users; anything else is a finding."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bundler.errors import BundlerError
from tests.fuzz import bundles, models, phone, questions, sdk, transport
from tests.fuzz.mutate import Mutator, first_line_kept, mutate_bytes, mutate_json, mutate_json_lines

CORPUS = Path(__file__).with_name("corpus")
RUN_FILES = first_line_kept(mutate_json)


@dataclass(frozen=True)
class Target:
    """A function, and the mutator of its inputs. Not `guided`: its work is not in Python, so that coverage is
    useless."""

    run: Callable[[bytes], None]
    mutate: Mutator = mutate_bytes
    guided: bool = True


TARGETS = {
    "squad_json": Target(questions.squad_json, mutate_json),
    "json_lines": Target(questions.json_lines, mutate_json_lines),
    "table": Target(questions.table),
    "plain_questions": Target(questions.plain),
    "manifest": Target(bundles.manifest, mutate_json),
    "host_file": Target(bundles.host_file, first_line_kept(mutate_json_lines)),
    "run_file": Target(bundles.run_file, RUN_FILES),
    "input_list": Target(models.input_list),
    "outputs": Target(phone.outputs),
    "announced": Target(phone.announced),
    "job": Target(phone.job),
    "probe": Target(phone.probe),
    "store": Target(phone.store),
    "error_lines": Target(phone.error_lines),
    "diagview": Target(phone.diagview),
    "adbd": Target(transport.adbd),
    "frames": Target(transport.frames),
    "sync_service": Target(transport.sync_service),
    "shell_stream": Target(transport.shell_stream),
    "sync_stream": Target(transport.sync_stream),
    "adb_server": Target(transport.adb_server),
    "adb_key": Target(transport.adb_key),
    "tokenizer": Target(models.tokenizer, first_line_kept(mutate_json)),
    "onnx": Target(models.onnx),
    "onnx_graph": Target(models.onnx_graph, guided=False),
    "dlc": Target(models.dlc, guided=False),
    "dlc_archive": Target(models.dlc_archive),
    "sdk_archive": Target(sdk.sdk_archive),
    "sdk_answer": Target(sdk.sdk_answer),
}


def check(name: str, data: bytes) -> None:
    """Passes an input to a target.

    Raises:
        Exception: any finding.
    """
    try:
        TARGETS[name].run(data)
    except BundlerError as error:
        if type(error) is BundlerError or not str(error).strip() or not error.hint.strip():
            raise


@cache
def corpus(name: str) -> tuple[Path, ...]:
    """Returns the target's kept inputs: valid ones, and all earlier findings."""
    return tuple(sorted((CORPUS / name).iterdir()))
