"""Brings the tokenizer of a transformers model into a tokenizer.json; needs neither torch nor transformers."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers

from bundler.errors import FileUnreadable, HostStorageFailed, ModelInvalid
from bundler.model.hub import local_folder
from bundler.qa.features import HINT, load_tokenizer, read_settings, tokenizer_text
from bundler.types import Progress

TOKENIZER = "tokenizer.json"


def tokenizer_of(source: str | Path, out: Path, progress: Progress) -> Path:
    """Writes the tokenizer of a model (a folder, or a name on huggingface.co) to `out`/tokenizer.json, and says where.

    Taken are, in this order: tokenizer.json as it is; vocab.txt, or ALBERT's spiece.model, with tokenizer_config.json.

    Raises:
        ModelInvalid, FileUnreadable: there is none, or it does not go with its model; HubUnreachable,
        HostStorageFailed.
    """
    folder = local_folder(source, progress, weights=False)
    known = next((folder / name for name in (TOKENIZER, "vocab.txt") if (folder / name).is_file()), None)
    tokenizer = load_tokenizer(known) if known else _albert_tokenizer(folder)
    _check_size(folder, tokenizer)
    whole = tokenizer_text(known) if known and known.name == TOKENIZER else tokenizer.to_str(pretty=True)
    path = out / TOKENIZER
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(whole, encoding="utf-8", newline="\n")
    except OSError as error:
        raise HostStorageFailed(path, error.strerror or str(error)) from error
    return path


def _albert_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """ALBERT's tokenizer, as transformers makes it, of spiece.model: a protobuf message of pieces with their scores."""
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
        raise ModelInvalid(path, f"is no SentencePiece model: {error}", HINT) from error


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
    """Pieces with scores, and the map of characters that the normalizer applies, of a ModelProto of SentencePiece."""
    pieces, character_map = [], b""
    for number, value in _fields(content):
        if number == 1:
            piece = dict(_fields(value))
            pieces.append((piece[1].decode("utf-8"), struct.unpack("<f", piece.get(2, bytes(4)))[0]))
        elif number == 3:
            character_map = dict(_fields(value)).get(2, b"")
    return pieces, character_map


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a protobuf message: number and content, which is the number itself in bytes where it is no text."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        kind = key & 7
        if kind == 0:
            start = at
            _, at = _number(message, at)
            yield key >> 3, message[start:at]
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            size, at = _number(message, at)
        if kind not in {1, 2, 5} or at + size > len(message):
            raise ValueError(f"cut short or damaged at byte {at}")
        yield key >> 3, message[at : at + size]
        at += size


def _number(message: bytes, at: int) -> tuple[int, int]:
    """A number in protobuf's base 128, and where it ends."""
    for length in range(1, 11):
        if at + length <= len(message) and not message[at + length - 1] & 0x80:
            digits = message[at : at + length]
            return sum((digit & 0x7F) << (7 * place) for place, digit in enumerate(digits)), at + length
    raise ValueError(f"cut short or damaged at byte {at}")


def _check_size(folder: Path, tokenizer: tokenizers.Tokenizer) -> None:
    """A tokenizer of another model would give numbers that this one has no embedding for."""
    config = folder / "config.json"
    if not config.is_file():
        return
    try:
        words = json.loads(config.read_text(encoding="utf-8")).get("vocab_size")
    except (OSError, ValueError, AttributeError, RecursionError):
        return  # whoever needs the configuration will say so
    pieces = tokenizer.get_vocab_size(with_added_tokens=False)
    if isinstance(words, int) and pieces > words:
        raise ModelInvalid(folder, f"its tokenizer has {pieces} pieces, and its model knows {words}", HINT)
