"""Embeds matplotlib's SVG into a page. Removes style attributes, which the page's policy forbids, avoids name
collisions, uses the page's colours, and inserts outside labels as text after drawing."""

import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SERIES = 8
COLOURS = {
    "ink": "#010101",
    "muted": "#020202",
    "grid": "#030303",
    "surface": "#040404",
    **{f"s{number}": f"#0505{number:02x}" for number in range(SERIES)},
}
"""Placeholder colours for matplotlib, each of which is replaced by the page's colour of that name."""

_NAMES = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_KEPT = frozenset(
    "fill stroke stroke-width stroke-dasharray stroke-dashoffset stroke-linejoin stroke-linecap opacity fill-opacity "
    "stroke-opacity font-size text-anchor".split()
)
_REFERENCE = re.compile(r"^((?:url\()?#)([\w-]+)(\)?)$")


def label(number: int, length: int) -> str:
    """Returns a placeholder for the label `number`, about as wide as the label."""
    return f"@{number}@".ljust(max(length, 4), "n")


def inline(figure: "Figure", name: str, description: str, labels: Mapping[str, str]) -> str:
    """Returns the drawing as an element of a page; `name` keeps its ids apart from other drawings'."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata=_METADATA, transparent=True)
    root = ElementTree.fromstring(drawn.getvalue())
    box = root.get("viewBox", "")
    for parent in list(root.iter()):
        for child in list(parent):
            if _plain(child.tag) in ("metadata", "style"):
                parent.remove(child)
    used = {value for element in root.iter() for value in _references(element)}
    for element in root.iter():
        _clean(element, name, used)
        element.text = labels.get(element.text or "", element.text)
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "role": "img", "aria-label": description})
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _plain(name: str) -> str:
    return name.rpartition("}")[2]


def _references(element: ElementTree.Element) -> set[str]:
    return {match[2] for value in element.attrib.values() if (match := _REFERENCE.match(value))}


def _clean(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Cleans one element: style properties become attributes; only ids that are referenced remain."""
    element.tag = _plain(element.tag)
    attributes = {_plain(key): value for key, value in element.attrib.items()}
    for declaration in attributes.pop("style", "").split(";"):
        key, _, value = declaration.partition(":")
        if key.strip() in _KEPT:
            attributes[key.strip()] = _NAMES.get(value.strip(), value.strip())
    own = attributes.pop("id", "")
    if own in used:
        attributes["id"] = f"{name}-{own}"
    for key in ("href", "clip-path"):
        if key in attributes:
            attributes[key] = _REFERENCE.sub(rf"\1{name}-\2\3", attributes[key])
    element.attrib.clear()
    element.attrib.update(attributes)
