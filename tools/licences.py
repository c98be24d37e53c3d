"""Writes the table of dependencies in docs/licences.md, from pyproject.toml and the installed packages.

    python -m tools.licences

A dependency that is not installed keeps its row. tests/test_package.py compares.
"""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
FOR_USERS = ("export", "report")  # extras; the others are for who changes the code
BEGIN, END = "<!-- dependencies -->\n", "<!-- end -->\n"
HEAD = "| package | for | licence |\n|---|---|---|\n"
ROW = re.compile(r"^\| (\S+) \| (.+) \| (.+) \|$", re.MULTILINE)
SPDX = {
    "Apache 2.0 License": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF-based",
}
"""What packages without a licence expression say -> how the table says it."""


def dependencies() -> Iterator[tuple[str, str]]:
    """Returns each package that pyproject.toml requires, and its purpose: `everything`, or an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {"everything": project["dependencies"], **project["optional-dependencies"]}
    for purpose in ("everything", *FOR_USERS):
        for requirement in asked[purpose]:
            yield re.split(r"[^A-Za-z0-9_-]", requirement)[0], purpose


def licence_of(package: str) -> str | None:
    """Returns the licence in the installed package's metadata; None if it is not installed."""
    try:
        metadata = importlib.metadata.metadata(package)
    except importlib.metadata.PackageNotFoundError:
        return None
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = metadata.get_all("Classifier") or []
    named = [name.rpartition(" :: ")[2] for name in classifiers if name.startswith("License :: ")]
    said = named[0] if named else str(metadata.get("License", "")).strip().partition("\n")[0]
    return SPDX.get(said, said)


def rows() -> dict[str, tuple[str, str]]:
    """Reads the existing table of the page: package -> purpose, licence."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return {name: (purpose, licence) for name, purpose, licence in ROW.findall(rest.partition(END)[0])[1:]}


def table() -> str:
    """Returns the up-to-date table."""
    told = rows()
    lines = []
    for package, purpose in dependencies():
        licence = licence_of(package) or told.get(package, ("", "not installed where this was written"))[1]
        lines.append(f"| {package} | {purpose} | {licence} |\n")
    return HEAD + "".join(lines)


def main() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + table() + END + after, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
