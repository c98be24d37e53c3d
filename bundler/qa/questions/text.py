"""Reads text files of any size in pieces; errors name the byte that is not UTF-8."""

import codecs
import io
import re
from collections.abc import Iterator
from pathlib import Path

from bundler.errors import FileUnreadable, QuestionsInvalid

PIECE = 1 << 18
LINE_ENDS = re.compile(r"(?<=\n)|(?<=\r)(?!\n)")
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def pieces_of(path: Path) -> Iterator[str]:
    """Yields the file's text in pieces, without a byte order mark.

    Raises:
        FileUnreadable, QuestionsInvalid
    """
    decoder, read = codecs.getincrementaldecoder("utf-8")(), 0
    try:
        with path.open("rb") as file:
            while True:
                piece = file.read(PIECE)
                if not read and piece.startswith(UTF_16):
                    raise QuestionsInvalid(path, "is UTF-16, not UTF-8", "Save it as UTF-8.")
                begun = read - len(decoder.getstate()[0])  # where the decoder's pending bytes and this piece begin
                try:
                    text = decoder.decode(piece, final=not piece)
                except UnicodeDecodeError as error:
                    raise QuestionsInvalid(
                        path, f"is not UTF-8 at byte {begun + error.start}", "Save it as UTF-8."
                    ) from error
                yield text.removeprefix("\ufeff") if not read else text
                if not piece:
                    return
                read += len(piece)
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error


def whole_text(path: Path, most: int, too_long: str, hint: str) -> str:
    """Returns the file's text, of at most `most` characters.

    Raises:
        FileUnreadable; QuestionsInvalid: it is empty, no UTF-8, or `too_long`
    """
    pieces, size = [], 0
    for piece in pieces_of(path):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise QuestionsInvalid(path, too_long, hint)
    text = "".join(pieces)
    check_text(path, "the text", text)
    return text


def lines_of(path: Path) -> Iterator[str]:
    """Yields the file's lines with their ends: line feeds, carriage returns or both, and nothing else.

    Raises:
        FileUnreadable, QuestionsInvalid
    """
    rest: list[str] = []
    whole_ends = io.IncrementalNewlineDecoder(None, translate=False)  # keeps both characters of an end together
    for piece in pieces_of(path):
        text: str = whole_ends.decode(piece, final=not piece)
        *whole, last = LINE_ENDS.split(text)
        for line in whole:
            yield "".join([*rest, line])
            rest = []
        rest.append(last)
    if line := "".join(rest):
        yield line


def check_text(source: Path | str, where: str, text: str) -> None:
    """Rejects text that is unusable for a question; `where` names the text in the file.

    Raises:
        QuestionsInvalid
    """
    if not text.strip():
        raise QuestionsInvalid(source, f"{where} is empty", "Give every question a text and a context.")
    check_unicode(source, where, text)


def check_unicode(source: Path | str, where: str, text: str) -> None:
    """Rejects text that UTF-8 cannot represent.

    Raises:
        QuestionsInvalid
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QuestionsInvalid(
            source,
            f"{where} holds half of a surrogate pair at character {error.start}",
            "Save the text as valid Unicode.",
        ) from error
