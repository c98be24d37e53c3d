"""Reads texts to search for answers, from files and folders."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import FileUnreadable, QuestionsInvalid
from bundler.qa.questions.text import whole_text

LARGEST_TEXTS = 4_000_000  # characters in total: their tokens take 200 times as much memory
TRY_BUILD = (
    "Give less of it, or build a bundle with it: `mbqa-bundle build --context-file TEXT --questions-file QUESTIONS`."
)


@dataclass(frozen=True)
class Text:
    """A text to search for answers; `name` is its file, or empty."""

    name: str
    content: str


def text_of(path: Path) -> Text:
    """Reads the text in a file.

    Raises:
        FileUnreadable; QuestionsInvalid: it is empty, no UTF-8, or too large
    """
    content = whole_text(path, LARGEST_TEXTS, f"is longer than {LARGEST_TEXTS:,} characters", TRY_BUILD)
    return Text(_name_of(path), content)


def texts_in(folder: Path) -> tuple[list[Text], list[str]]:
    """Returns the texts in a folder and its subfolders, sorted by name, and the names of files that are no text.

    Raises:
        FileUnreadable: the folder cannot be read; QuestionsInvalid: it holds no text
    """
    texts, others, left = [], [], LARGEST_TEXTS
    try:
        os.scandir(folder).close()
        files = sorted(Path(root, name) for root, _, names in os.walk(folder) for name in names)
        for path in files:
            name = _name_of(path.relative_to(folder))
            content = _text_of(path, 4 * left) if path.is_file() else None
            if content is None:
                others.append(name)
                continue
            texts.append(Text(name, content))
            left = max(0, left - len(content))
    except OSError as error:
        raise FileUnreadable(Path(error.filename or folder), error.strerror or str(error)) from error
    if not texts:
        what = f"holds no text, but {len(others)} other files" if others else "holds no text"
        raise QuestionsInvalid(folder, what, "Name a folder with texts as UTF-8.")
    return texts, others


def _name_of(path: Path) -> str:
    """Returns the path as text that can be written anywhere."""
    return os.fsencode(path.as_posix()).decode(errors="backslashreplace")


def _text_of(path: Path, most_bytes: int) -> str | None:
    """Returns the file's text; None if it is empty, or no UTF-8.

    Raises:
        OSError; QuestionsInvalid: it is a text that is too large
    """
    with path.open("rb") as file:
        raw = file.read(most_bytes + 1)
    if b"\0" in raw:
        return None
    if len(raw) > most_bytes:
        raise QuestionsInvalid(path, f"with it the texts are longer than {LARGEST_TEXTS:,} characters", TRY_BUILD)
    try:
        text = raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        return None
    return text if text.strip() else None


def check_texts(texts: Sequence[Text]) -> None:
    """Raises: QuestionsInvalid if the texts are too large in total"""
    size = sum(len(text.content) for text in texts)
    if size > LARGEST_TEXTS:
        what = f"{size:,} characters of text, and ask takes {LARGEST_TEXTS:,}"
        raise QuestionsInvalid(texts[0].name if len(texts) == 1 else f"{len(texts)} texts", what, TRY_BUILD)
