"""Defines every file name in the bundle and on the phone. No other module contains paths."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath

DEFAULT_BUNDLE = "bundle"

# in the bundle
MANIFEST = "manifest.json"
SEAL = "manifest.sha256"  # of the manifest, as sha256sum writes it
DEVICE = "device"
HOST = "host"
RUNS = "runs"

# in the bundle's device/ folder, and below the bundle's folder on the phone
MODEL = "model.dlc"
INPUT_LIST = "input_list.txt"
INPUTS = "inputs"
JOB = "job.sh"  # on the phone only
PREPARED = "htp"  # compiled from the DLC ahead of time: CHIP-DIGEST.bin
OUTPUT = "output"  # made by the run, one folder a runtime

# in the bundle's host/ folder
QUESTIONS = "questions.jsonl"
WINDOWS = "windows.jsonl"
SUMS = "inputs.sha256"  # of the raw inputs, as sha256sum writes them
OFFSETS = "offsets.npy"
TOKENIZER = "tokenizer.json"
EXPONENTS = "exponents.npy"  # of the DLC's channels: int8, whose values are the float32 model's times two to that power
REFERENCE = "reference.onnx"  # the float32 model that the DLC came from
VERIFY = "verify.npz"  # its logits for a few windows

CLUSTER = "cluster"  # stands for the phones in the name of a cluster's run

# in a run's folder
RUN = "run.json"
LOGITS = "logits"  # one file a chunk of the input list
TIMES = "times"  # the end times of inferences, one file for each chunk
DIAGNOSTICS = "diag"  # the engines' logs of times, one file for each chunk
ANSWERS = "answers.json"
PREDICTIONS = "predictions.json"
NULL_ODDS = "null_odds.json"
N_BEST = "nbest_predictions.json"

# in the bundle's runs/ folder
EVALUATION = "evaluation.json"
REPORT = "report.html"

REMOTE_ROOT = PurePosixPath("/data/local/tmp/mbqa")

LONGEST_NAME = 100


def input_file(tensor: str, window: int) -> str:
    """Returns the path of a window's raw input, relative to the device folder."""
    return f"{INPUTS}/{tensor}/{window:06d}.raw"


def tensor_of(path: str) -> str:
    """Returns the tensor whose values a raw input contains."""
    return path.rpartition("/")[0].rpartition("/")[2]


def is_input_file(path: str, tensor: str) -> bool:
    """Returns whether `input_file` can return this path, for any window."""
    return _input_files(tensor).fullmatch(path) is not None


@cache
def _input_files(tensor: str) -> re.Pattern[str]:
    return re.compile(rf"{INPUTS}/{re.escape(tensor)}/\d{{6,18}}\.raw", re.ASCII)


def result_file(tensor: str, line: int) -> str:
    """Returns the path of an output of the input list's line `line` (from 0), relative to the run's output folder."""
    return f"Result_{line}/{tensor}.raw"


def result_aliases(path: str) -> tuple[str, ...]:
    """Returns the names that releases of snpe-net-run and qnn-net-run use for the output `path`: QNN's converters turn
    a colon in a tensor's name into an underscore."""
    stem = path.removesuffix(".raw")
    return (path, f"{stem}:0.raw", f"{stem}_0.raw")


def chunk_file(name: str, *, compressed: bool) -> str:
    """Returns the path of a chunk's archive of inputs, relative to the bundle's folder on the phone."""
    return f"{INPUTS}/{name}.{'tgz' if compressed else 'tar'}"


def htp_settings(perf_profile: str, platform_options: str) -> str:
    """Returns the name of qnn-net-run's DSP settings in the phone's bundle folder; its runner has the name too."""
    return f"htp_{perf_profile}_{platform_options}.json"


def prepared_for(path: str) -> str | None:
    """Returns the chip that a file of the device folder was prepared for, by its name; None for other files."""
    folder, _, name = path.partition("/")
    return name.partition("-")[0] if folder == PREPARED else None


def convert_log(bundle: Path) -> Path:
    """Returns the path of the log of the SDK's tools during a build: beside the bundle, so that it remains."""
    return bundle.with_name(f"{bundle.name}.convert.log")


def remote_bundle(bundle_id: str) -> PurePosixPath:
    return REMOTE_ROOT / bundle_id


def file_safe(name: str) -> str:
    """Returns a serial in a form for file names."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", name)


def log_of(phone: str) -> str:
    """Returns the name of a phone's log of the engine, relative to the run's folder."""
    return f"log-{file_safe(phone)}.txt"


def bench_file(bundle: Path, runtime: str, phone: str) -> Path:
    """Returns the path of the result of `bench`."""
    return bundle / RUNS / f"bench-{runtime}-{file_safe(phone)}.json"


def reference_folder(bundle: Path, bundle_id: str, sample: str) -> Path:
    """Returns the folder of the float32 reference's logits, stored like a run's; `sample` distinguishes samples."""
    return bundle / RUNS / "reference" / (bundle_id + sample)


def run_folder(bundle: Path, runtime: str, serials: Sequence[str]) -> Path:
    """Returns the folder of a run on these phones."""
    names = [file_safe(serial) for serial in sorted(serials)]
    shown = "+".join(names)
    if len(shown) > LONGEST_NAME:  # file systems have limits, and so do readers
        import hashlib

        digest = hashlib.sha256("\n".join(sorted(serials)).encode()).hexdigest()[:8]
        shown = f"{names[0][:LONGEST_NAME]}-and-{len(names) - 1}-more-{digest}"
    return bundle / RUNS / f"{runtime}-{shown}"
