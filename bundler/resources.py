"""Locates the files that ship with the code: templates, device scripts, the demo and the tables."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

PACKAGE = Path(__file__).resolve().parent


def _shipped(folder: str) -> Path:
    """Returns the folder's path: in a wheel it is inside the package, in a checkout beside it."""
    packaged = PACKAGE / folder
    return packaged if packaged.is_dir() else PACKAGE.parent / folder


TEMPLATES = _shipped("templates")
DEVICE_SCRIPTS = _shipped("device_scripts")
DEMO = PACKAGE / "demo"
DEMO_MODEL = DEMO / "model.onnx"
DEMO_TOKENIZER = DEMO / "tokenizer.json"
DEMO_QUESTIONS = DEMO / "questions.json"
SOCS = PACKAGE / "socs.json"
KNOWN_ERRORS = PACKAGE / "device" / "known_errors.toml"
KNOWN_LIMITS = PACKAGE / "device" / "known_limits.toml"
SDK_VERSIONS = PACKAGE / "sdk" / "versions.toml"


def templates(*, html: bool) -> "jinja2.Environment":
    """Returns our templates: of HTML, with escaped values, or of plain text. A missing value is an error."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=not html,
        trim_blocks=True,
        lstrip_blocks=html,
        autoescape=html,
    )
