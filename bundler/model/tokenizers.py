"""Finds the tokenizer of a transformers model, and converts ALBERT's to a tokenizer.json; needs no torch."""

from pathlib import Path
from typing import Any

import tokenizers

from bundler.errors import FileUnreadable, HostStorageFailed, ModelInvalid
from bundler.model.hub import make_quiet, tokenizer_in
from bundler.qa.features import HINT, load_tokenizer, read_settings


def tokenizer_of(folder: Path, out: Path) -> Path:
    """Returns the path of a model's tokenizer: the folder's tokenizer.json or vocab.txt, or else a new tokenizer.json
    in `out`, made from ALBERT's spiece.model and tokenizer_config.json.

    Raises:
        ModelInvalid, FileUnreadable: there is none, or it does not match its model; HostStorageFailed.
    """
    known = tokenizer_in(folder)
    tokenizer = load_tokenizer(known) if known else _albert_tokenizer(folder)
    _check_size(folder, tokenizer)
    if known is not None:
        return known
    path = out / "tokenizer.json"
    try:
        path.write_text(tokenizer.to_str(pretty=True), encoding="utf-8", newline="\n")
    except OSError as error:
        raise HostStorageFailed(path, error.strerror or str(error)) from error
    return path


def _albert_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """Builds ALBERT's tokenizer, like transformers, from spiece.model: a protobuf message of scored pieces."""
    path = folder / "spiece.model"
    if not path.is_file():
        raise ModelInvalid(folder, "has no tokenizer", HINT)
    settings = read_settings(folder / "tokenizer_config.json")
    try:
        pieces, character_map = _read_pieces(path.read_bytes())
        return _unigram_tokenizer(pieces, character_map, settings)
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error
    except Exception as error:  # the Rust library raises bare Exception
        raise ModelInvalid(path, f"is not a SentencePiece model: {error}", HINT) from error


def _unigram_tokenizer(
    pieces: list[tuple[str, float]], character_map: bytes, settings: dict[str, Any]
) -> tokenizers.Tokenizer:
    from tokenizers import models, normalizers, pre_tokenizers, processors

    numbers = {piece: number for number, (piece, _) in enumerate(pieces)}
    made = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=numbers["<unk>"]))
    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not settings.get("keep_accents"):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if settings.get("do_lower_case") is not False:
        steps.append(normalizers.Lowercase())
    if character_map:
        steps.append(normalizers.Precompiled(character_map))
    made.normalizer = normalizers.Sequence([*steps, normalizers.Replace(tokenizers.Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    made.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, numbers[token]) for token in ("[CLS]", "[SEP]")],
    )
    made.add_special_tokens(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"])
    return made


def _read_pieces(content: bytes) -> tuple[list[tuple[str, float]], bytes]:
    """Parses SentencePiece's ModelProto; returns pieces with scores, and the normalizer's character map."""
    make_quiet()
    from transformers.convert_slow_tokenizer import import_protobuf

    model = import_protobuf().ModelProto.FromString(content)
    return [(each.piece, each.score) for each in model.pieces], model.normalizer_spec.precompiled_charsmap


def _check_size(folder: Path, tokenizer: tokenizers.Tokenizer) -> None:
    """Rejects a tokenizer of another model, whose token ids may have no embedding in this model."""
    words = read_settings(folder / "config.json").get("vocab_size")
    pieces = tokenizer.get_vocab_size(with_added_tokens=False)
    if isinstance(words, int) and pieces > words:
        raise ModelInvalid(folder, f"its tokenizer has {pieces} pieces, and its model knows {words}", HINT)
