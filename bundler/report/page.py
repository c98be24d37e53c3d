"""Renders the page: escapes all outside text, inlines our own parts, and lists their hashes in the page's policy."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from bundler.errors import InputError
from bundler.files import writing
from bundler.report import figures
from bundler.report.plots import draw, why_none
from bundler.report.questions import embedded
from bundler.resources import TEMPLATES, templates

SCHEMA = 1
STYLES = ("report.css", "report.questions.css")
SCRIPTS = ("report.cards.js", "report.list.js", "report.js")
_DANGEROUS = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029\x7f"}
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def render_report(document: Mapping[str, Any]) -> str:
    """Renders the whole page of an evaluation document. The same document gives the same page."""
    if document.get("schema") != SCHEMA:
        raise InputError(
            f"an evaluation of schema {document.get('schema')!r} cannot be drawn: this release draws schema {SCHEMA}",
            "Evaluate again with this release of mbqa-bundle.",
        )
    style = "\n".join(_ours(name) for name in STYLES)
    script = "\n".join(_ours(name) for name in SCRIPTS)
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            document=document,
            policy=_policy(style, script),
            style=Markup(style),
            script=Markup(script),
            data=Markup(_json(embedded(document))),
            headline=figures.headline(document),
            worst_layers=figures.worst_layers(document),
            trials=figures.trials(document),
            simulated=figures.is_simulated(document),
            plots=draw(document),
            no_plots=why_none(),
        )
    )
    return _UNPRINTABLE.sub("\ufffd", page)


def write_report(document: Mapping[str, Any], path: Path) -> None:
    """Writes the page atomically."""
    page = render_report(document)
    with writing(path) as draft:
        draft.write_text(page, encoding="utf-8", newline="\n")


def _environment() -> jinja2.Environment:
    environment = templates(html=True)
    environment.filters["figure"] = figures.figure
    environment.filters["count"] = figures.count
    environment.filters["change"] = figures.change
    environment.filters["limit"] = figures.gate_limit
    environment.filters["value"] = figures.gate_value
    environment.filters["percent"] = figures.percent
    return environment


def _ours(name: str) -> str:
    """Reads a part of the page that we wrote. It must not contain the end of its own element."""
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    assert "</" not in text
    return text


def _policy(style: str, script: str) -> str:
    """Returns a policy that allows only this style and this script: no address, other script or inline handler."""
    return (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(value: object) -> str:
    """Encodes JSON so that it is inert inside HTML: no character in it can end an element, a comment or a line."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_DANGEROUS)
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
