"""Loads a question-answering model from a transformers folder, after all checks that need no torch."""

from pathlib import Path
from typing import Any

from bundler.errors import ExtraMissing, ModelInvalid
from bundler.model.file_kinds import check_kind, check_whole
from bundler.model.hub import PICKLES, SAFETENSORS, make_quiet
from bundler.qa.features import read_settings

FAMILIES = {
    "mobilebert": "MobileBERT", "bert": "BERT", "distilbert": "DistilBERT", "electra": "ELECTRA", "albert": "ALBERT",
}  # fmt: skip
HEAD = "ForQuestionAnswering"
LARGEST_BYTES = 1_900_000_000  # an ONNX file is one protobuf message, which cannot be longer than 2 GiB
FINE_TUNED = "Give a model that was fine-tuned on questions and answers (SQuAD)."


def read_config(folder: Path) -> dict[str, Any]:
    """Reads config.json.

    Raises:
        FileUnreadable; ModelInvalid: it is missing or no JSON object.
    """
    path = folder / "config.json"
    if not path.exists():
        raise ModelInvalid(folder, "has no config.json", "Give a folder as transformers' save_pretrained writes it.")
    return read_settings(path, "Get the file again.")


def load_model(folder: Path) -> Any:
    """Loads the torch model in float32, in evaluation mode, with eager attention.

    Raises:
        ModelInvalid: weights are missing or damaged, or those of the question-answering head are; ExtraMissing.
    """
    check_weights(folder)
    torch, transformers = import_libraries()
    try:
        model, report = transformers.AutoModelForQuestionAnswering.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True,
            local_files_only=True, trust_remote_code=False, weights_only=True,
        )  # fmt: skip
    except Exception as error:  # the libraries raise anything on bad files
        raise ModelInvalid(folder, f"cannot be loaded: {_reason(error)}", "Get its files again.") from error
    _check_loaded(folder, torch, model, report)
    return model.eval()


def check_config(folder: Path, config: dict[str, Any], length: int) -> None:
    """Rejects models that do not answer questions with `length` tokens, or are of an unknown family.

    Raises:
        ModelInvalid
    """
    family, architectures = config.get("model_type"), config.get("architectures") or []
    if not isinstance(family, str) or family not in FAMILIES:
        known = ", ".join(FAMILIES.values())
        raise ModelInvalid(folder, f"is a model of type {family!r}", f"This tool takes {known}.")
    names = [str(name) for name in architectures] if isinstance(architectures, list) else [str(architectures)]
    if names and not any(name.endswith(HEAD) for name in names):
        raise ModelInvalid(folder, f"is a {names[0]}, no question-answering model", FINE_TUNED)
    longest = config.get("max_position_embeddings", 512)
    if isinstance(longest, int) and length > longest:
        raise ModelInvalid(folder, f"takes at most {longest} tokens, not {length}", f"Use --seq-len {longest} or less.")
    if (folder / "adapter_config.json").exists():
        raise ModelInvalid(folder, "is an adapter (PEFT, LoRA)", "Merge it into its base model and save that.")


def import_libraries() -> tuple[Any, Any]:
    """Imports torch and transformers and silences them.

    Raises:
        ExtraMissing
    """
    try:
        import torch
        import transformers
    except (ImportError, OSError) as error:
        name = getattr(error, "name", None) or "torch"
        reason = f"{name} is not installed" if isinstance(error, ModuleNotFoundError) else f"{name}: {error}"
        raise ExtraMissing("exporting a transformers model", reason, "export") from error
    make_quiet()
    transformers.utils.logging.set_verbosity(transformers.utils.logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


def check_weights(folder: Path) -> None:
    """Rejects a folder whose weights are missing, truncated, or replaced by a file of another kind.

    Raises:
        ModelInvalid, FileUnreadable
    """
    names = sorted(path.name for path in folder.iterdir())
    found = [name for pattern in (SAFETENSORS, PICKLES) for name in names if pattern.fullmatch(name)]
    if not found:
        other = next((name for name in ("tf_model.h5", "flax_model.msgpack") if name in names), None)
        has = f" for PyTorch, only {other}" if other else ""
        raise ModelInvalid(
            folder, f"has no weights{has}", "A model's folder holds model.safetensors or pytorch_model.bin."
        )
    for name in found:
        check_kind(folder / name, weights=True)
        if name.endswith(".safetensors"):
            check_whole(folder / name)


def _check_loaded(folder: Path, torch: Any, model: Any, report: dict[str, Any]) -> None:
    missing = sorted(str(key) for key in report.get("missing_keys", ()))
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ModelInvalid(folder, f"its file lacks the weights {', '.join(missing[:3])}{more}", FINE_TUNED)
    head = getattr(model, "qa_outputs", None)
    if head is None or head.out_features != 2:
        raise ModelInvalid(folder, "its head does not give a start and an end logit", FINE_TUNED)
    size = 0
    for name, values in model.named_parameters():
        size += 4 * values.numel()
        if not bool(torch.isfinite(values).all()):
            raise ModelInvalid(folder, f"weight {name} holds NaN or infinity", "Get or train the model again.")
    if size > LARGEST_BYTES:
        raise ModelInvalid(folder, f"its weights take {size / 1e9:.1f} GB, too much for ONNX", "Use a smaller model.")


def _reason(error: Exception) -> str:
    """Returns the message of a transformers exception in one line."""
    text = " ".join(str(error).split())
    if "weights_only" in text or "Weights only load failed" in text:
        return "its .bin file is damaged or holds code besides weights, and such code is not run"
    return text[:300] or type(error).__name__
