"""Shell patterns: `*`, `?` and `[...]` against strings and against the phone's files."""

import os
import re
import stat
from functools import lru_cache

from bundler.virtual.storage import Storage

SPECIAL = re.compile(r"([*?\[\]\\])")
CLASSES = {
    "alpha": "A-Za-z",
    "digit": "0-9",
    "alnum": "A-Za-z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r"\s",
    "blank": r" \t",
    "punct": r"!-/:-@\[-`{-~",
    "xdigit": "0-9A-Fa-f",
    "cntrl": r"\x00-\x1f\x7f",
    "print": r"\x20-\x7e",
    "graph": r"\x21-\x7e",
}


def escape(text: str) -> str:
    """`text` as a pattern that matches just itself."""
    return SPECIAL.sub(r"\\\1", text)


def unescape(pattern: str) -> str:
    """The text of a pattern taken literally."""
    return re.sub(r"\\(.)", r"\1", pattern, flags=re.DOTALL)


def is_pattern(pattern: str) -> bool:
    """Whether the pattern has a live `*`, `?` or `[`."""
    return re.search(r"[*?\[]", re.sub(r"\\.", "", pattern, flags=re.DOTALL)) is not None


@lru_cache(maxsize=512)
def compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression of a shell pattern; sought in a text, it finds the longest match.

    What stands between two stars is taken where it fits first and never sought again, which is as good, and fast.
    """
    first, *others = _pieces(pattern)
    if not others:
        return re.compile(first, re.DOTALL)
    *middle, last = others
    return re.compile(first + "".join(f"(?>.*?{each})" for each in middle if each) + ".*" + last, re.DOTALL)


def _pieces(pattern: str) -> list[str]:
    """The regular expressions between the pattern's stars."""
    pieces, result, position = [], "", 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            pieces.append(result)
            result = ""
        elif character == "?":
            result += "."
        elif character == "\\" and position < len(pattern):
            result += re.escape(pattern[position])
            position += 1
        elif character == "[" and (end := _bracket_end(pattern, position)):
            result += _bracket(pattern[position:end])
            position = end + 1
        else:
            result += re.escape(character)
    return [*pieces, result]


def _bracket_end(pattern: str, start: int) -> int:
    """Where the `]` of a bracket expression stands, 0 if there is none."""
    position = start + (pattern[start : start + 1] in ("!", "^"))
    position += pattern[position : position + 1] == "]"
    while position < len(pattern) and pattern[position] != "]":
        if pattern.startswith("[:", position) and (end := pattern.find(":]", position)) > 0:
            position = end + 1
        position += 1 + (pattern[position] == "\\")
    return position if position < len(pattern) else 0


def _bracket(body: str) -> str:
    negated = body[:1] in ("!", "^")
    position, result = int(negated), ""
    while position < len(body):
        if body.startswith("[:", position) and (end := body.find(":]", position)) > 0:
            result += CLASSES.get(body[position + 2 : end], "")
            position = end + 2
            continue
        first, position = _member(body, position)
        last = first
        if body[position : position + 1] == "-" and position + 1 < len(body):
            last, position = _member(body, position + 1)
        if first <= last:  # else it holds nothing, as in mksh
            result += f"{re.escape(first)}-{re.escape(last)}"
    if not result:
        return "." if negated else "(?!)"
    return f"[{'^' if negated else ''}{result}]"


def _member(body: str, position: int) -> tuple[str, int]:
    """The character there, which a backslash may protect, and the place behind it."""
    position += body[position] == "\\" and position + 1 < len(body)
    return body[position], position + 1


def matches(pattern: str, text: str) -> bool:
    """Whether the whole of `text` matches."""
    return compiled(pattern).fullmatch(text) is not None


def remove(text: str, pattern: str, operator: str) -> str:
    """`text` without the prefix (`#`, `##`) or suffix (`%`, `%%`) that matches; doubled is the longest."""
    expression = compiled(pattern)
    lengths = range(len(text) + 1)
    longest = len(operator) == 2
    if operator[0] == "#":
        for end in reversed(lengths) if longest else lengths:
            if expression.fullmatch(text, 0, end):
                return text[end:]
    else:
        for start in lengths if longest else reversed(lengths):
            if expression.fullmatch(text, start):
                return text[:start]
    return text


def replace(text: str, pattern: str, replacement: str, *, everywhere: bool) -> str:
    """`text` with the first match, or every one, replaced (`${x/p/r}`, `${x//p/r}`)."""
    if not pattern:
        return text
    anchor = pattern[0] if pattern[0] in "#%" else ""
    source = compiled(pattern[1:] if anchor else pattern).pattern
    source = rf"\A{source}" if anchor == "#" else rf"{source}\Z" if anchor == "%" else source
    return re.sub(source, lambda _: replacement, text, count=0 if everywhere else 1, flags=re.DOTALL)


def paths(pattern: str, storage: Storage, cwd: str) -> list[str]:
    """The phone's paths that match, sorted; none if there is no match."""
    found = ["/"] if pattern.startswith("/") else [""]
    parts = pattern.split("/")
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "":
            found = [f if f.endswith("/") or not f or last else f + "/" for f in found]
            if last and index:
                found = [f if f.endswith("/") else f + "/" for f in found if _is_folder(f, storage, cwd)]
            continue
        found = [f"{folder}{name}" for folder in found for name in _names(folder, part, storage, cwd)]
        if not last:
            found = [f + "/" for f in found if _is_folder(f, storage, cwd)]
    return sorted(found, key=os.fsencode)


def _names(folder: str, part: str, storage: Storage, cwd: str) -> list[str]:
    try:
        host = storage.host(folder or ".", cwd)
        if not is_pattern(part):
            name = unescape(part)
            (storage.host(f"{folder}{name}", cwd, follow=False)).lstat()
            return [name]
        names = [*os.listdir(host)]  # noqa: PTH208  (names, in bytes-safe form)
    except OSError:
        return []
    expression = compiled(part)
    hidden = part.startswith((".", "\\."))
    return [name for name in names if (hidden or not name.startswith(".")) and expression.fullmatch(name)]


def _is_folder(path: str, storage: Storage, cwd: str) -> bool:
    try:
        return stat.S_ISDIR(storage.host(path or ".", cwd).stat().st_mode)
    except OSError:
        return False
