"""Downloads a model from huggingface.co into a local folder. Selects files by name and does not read their content."""

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from bundler.errors import HubUnreachable, ModelInvalid
from bundler.types import Progress

TIMEOUT_S = 10.0  # for a response of the hub; a download may take as long as bytes arrive
MODEL_NAME = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*")
FILE_SUFFIXES = {".onnx", ".dlc", ".bin", ".safetensors", ".pt", ".json", ".txt", ".zip", ".tflite"}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "spiece.model", "special_tokens_map.json")
SAFETENSORS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
PICKLES = re.compile(r"pytorch_model(-\d{5}-of-\d{5})?\.bin(\.index\.json)?")
EXAMPLE = "csarron/mobilebert-uncased-squad-v2"


def local_folder(source: str | Path, progress: Progress, *, weights: bool = True) -> Path:
    """Returns a model's folder: `source` itself, or where its files from the hub are (config, tokenizer, weights).

    Raises:
        ModelInvalid: `source` is not a folder and no model of the hub; HubUnreachable.
    """
    name = str(source)
    if name and Path(name).is_dir():
        return Path(name)
    if not is_model_name(name):
        raise ModelInvalid(
            name,
            "is not a folder, and not the name of a model on huggingface.co",
            f"Give a folder with config.json and weights, or a name such as {EXAMPLE}.",
        )
    make_quiet()
    return _download(name, progress, weights)


def is_model_name(text: str) -> bool:
    """Returns whether the text may name a model on the hub (`owner/name`, or an old `name`) and no local file."""
    if Path(text).exists() or Path(text).suffix in FILE_SUFFIXES:
        return False
    return MODEL_NAME.fullmatch(text) is not None and ".." not in text and "--" not in text


def tokenizer_in(folder: Path) -> Path | None:
    """Returns the folder's tokenizer.json, else its vocab.txt, else None."""
    return next((path for name in ("tokenizer.json", "vocab.txt") if (path := folder / name).is_file()), None)


def make_quiet() -> None:
    """Stops the hub's libraries from printing and from sending telemetry."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    import logging

    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import disable_progress_bars

    constants.HF_HUB_DISABLE_TELEMETRY = True  # takes effect even if it was imported before
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is not False:  # False: the user asks for them
        disable_progress_bars()


def _download(name: str, progress: Progress, weights: bool) -> Path:
    from huggingface_hub import HfApi, errors, hf_hub_download

    progress(f"asking huggingface.co for {name}", 0, None)
    try:
        info = HfApi().model_info(name, files_metadata=True, timeout=TIMEOUT_S)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        wanted = _wanted(sizes, weights)
        if wanted:
            hf_hub_download(name, wanted[0], etag_timeout=TIMEOUT_S)  # by branch: so that the cache knows it offline
        for number, file in enumerate(wanted):
            progress(f"downloading {file} ({sizes[file] / 1e6:.1f} MB)", number, len(wanted))
            path = hf_hub_download(name, file, revision=info.sha, etag_timeout=TIMEOUT_S)
    except errors.GatedRepoError as error:
        raise ModelInvalid(
            name, "is a gated model", "Accept its conditions on huggingface.co, then run `hf auth login`."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelInvalid(
            name,
            "there is no such model on huggingface.co, or it is private",
            f"Check the name ({EXAMPLE} is one); for a private model run `hf auth login`.",
        ) from error
    except errors.HFValidationError as error:
        raise ModelInvalid(name, "is not the name of a model on huggingface.co", f"One such is {EXAMPLE}.") from error
    except Exception as error:  # the hub's library does not wrap the errors of its HTTP library
        return _cached(name, weights, error)
    if not wanted:
        raise ModelInvalid(
            name, "has no config.json on huggingface.co", f"Give a transformers model such as {EXAMPLE}."
        )
    return Path(path).parent


def _wanted(names: Collection[str], weights: bool) -> list[str]:
    """Returns the needed files of a repository, with one format of weights: safetensors rather than pickles."""
    if "config.json" not in names:
        return []
    found = [name for name in ("config.json", *TOKENIZER_FILES) if name in names]
    for pattern in (SAFETENSORS, PICKLES) if weights else ():
        if matching := sorted(name for name in names if pattern.fullmatch(name)):
            return found + matching
    return found


def _cached(name: str, weights: bool, reason: Exception) -> Path:
    """Returns the newest copy in the local hub cache, if it is complete."""
    from huggingface_hub import snapshot_download

    unreachable = HubUnreachable(name, short_reason(reason))
    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except Exception:
        raise unreachable from reason
    names = [path.name for path in folder.iterdir()]
    kinds = (SAFETENSORS, PICKLES)
    if "config.json" not in names or (weights and not any(kind.fullmatch(n) for kind in kinds for n in names)):
        raise unreachable from reason
    return folder


def short_reason(error: Any) -> str:
    """Returns the innermost cause in one line; only the operating system's message if an HTTP library wrapped it."""
    while error.__cause__ is not None:
        error = error.__cause__
    if said := re.search(r"\[Errno -?\d+\] [^'\")]+", str(error)):
        return said[0]
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
