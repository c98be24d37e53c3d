"""Tests the report as text: one file, reproducible, with escaped texts."""

import itertools
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bundler.errors import InputError
from bundler.report import plots, render_report, write_report
from tests import evaluations, hostile_evaluation

VOID = {"meta", "link", "input", "br", "hr", "img"}


class Reader(HTMLParser):
    """Collects the contents of a page, and checks that elements are closed correctly."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(evaluations.document())


@pytest.fixture(scope="module")
def hostile() -> str:
    return render_report(hostile_evaluation.hostile())


def data_of(page: str) -> Any:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


@pytest.mark.parametrize("kind", [evaluations.document, evaluations.bare, hostile_evaluation.hostile])
def test_is_well_formed_with_one_script_and_one_style(kind: Any) -> None:
    read = Reader(render_report(kind()))
    assert read.open == []
    scripts = [attributes for tag, attributes in read.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
    assert sum(tag == "style" for tag, _ in read.tags) == 1
    names = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(names) == len(set(names))


def test_neither_handlers_nor_styles_stand_in_attributes(hostile: str) -> None:
    for _, attributes in Reader(hostile).tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]


def test_asks_for_nothing(page: str, hostile: str) -> None:
    for text in (page, hostile):
        assert not re.search(r"https?://|url\((?!#)|@import|//\w+\.\w+", text)
        read = Reader(text)
        addresses = {attributes.get(name) for _, attributes in read.tags for name in ("src", "href", "action")}
        assert {address for address in addresses if address and not address.startswith("#")} == {"data:,"}


def test_its_policy_allows_only_what_is_in_it(page: str) -> None:
    (policy,) = [
        attributes["content"]
        for tag, attributes in Reader(page).tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_says_its_language_title_and_width(page: str) -> None:
    assert '<html lang="en">' in page
    assert "<title>mobilebert-uncased-squad-v2.onnx – evaluation</title>" in page
    assert 'name="viewport"' in page


def test_headings_are_in_order_and_headers_have_a_scope(page: str) -> None:
    tags = Reader(page).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all("scope" in attributes for tag, attributes in tags if tag == "th")
    assert all("aria-label" in attributes for tag, attributes in tags if tag == "svg")


@pytest.mark.slow
def test_the_same_document_gives_the_same_page(page: str) -> None:
    assert render_report(evaluations.document()) == page
    code = (
        "import sys; from bundler.report import render_report; from tests import evaluations\n"
        "sys.stdout.buffer.write(render_report(evaluations.document()).encode())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=120)
    assert done.stdout.decode() == page


def test_hostile_texts_come_back_as_they_are_in_the_data(hostile: str) -> None:
    document = hostile_evaluation.hostile()
    data = data_of(hostile)
    assert data["contexts"] == document["contexts"]
    assert data["runs"] == [run["name"] for run in document["runs"]]
    assert data["reference"] == document["reference"]["name"]
    for found, given in zip(data["questions"], document["questions"], strict=True):
        assert [found[key] for key in ("id", "question", "title", "golds")] == [
            given[key] for key in ("id", "question", "title", "golds")
        ]


@pytest.mark.parametrize("char", list("<>&\u2028\u2029"))
def test_the_data_holds_no_character_that_could_end_it(hostile: str, char: str) -> None:
    (text,) = re.findall(r'id="data">(.*?)</script>', hostile, re.DOTALL)
    assert char not in text


def test_hostile_names_are_text_in_the_page(hostile: str) -> None:
    read = Reader(hostile)
    shown = "".join(read.texts["bdi"])
    for text in hostile_evaluation.HOSTILE[:4]:
        assert text in shown
    assert not [tag for tag, _ in read.tags if tag in ("img", "b")]
    assert "{{ 7 * 7 }}" in shown
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", hostile)


def test_is_written_whole_as_utf_8(hostile: str, tmp_path: Path) -> None:
    write_report(hostile_evaluation.hostile(), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes().decode() == hostile
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_what_is_not_known_is_left_out() -> None:
    page = render_report(evaluations.bare())
    read = Reader(page)
    assert '<h2 id="gates">' not in page
    assert [text for text in read.texts["h3"] if text.strip()] == ["Agreement by precision"]
    assert "NaN" not in page.replace("Number.isNaN", "")
    assert "None" not in page


def test_a_single_run_without_questions() -> None:
    document = evaluations.document(0)
    document["runs"] = document["runs"][:1]
    document["runs"][0].update(scores=None, agreement={"questions": 0, "equal": 0, "fraction": 0.0})
    assert "1 run of 0 questions" in render_report(document)


def test_figures_that_are_not_finite() -> None:
    document = evaluations.document(3)
    document["runs"][0]["logits"].update(sqnr_db=float("inf"), cosine=float("nan"))
    document["questions"][0]["runs"][0]["confidence"] = float("nan")
    page = render_report(document)
    assert "∞" in page
    assert data_of(page)["questions"][0]["runs"][0]["at"][2] is None


def test_another_schema_is_refused() -> None:
    with pytest.raises(InputError, match="schema 2"):
        render_report({**evaluations.document(1), "schema": 2})


def test_without_matplotlib_the_page_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    page = render_report(evaluations.document(3))
    assert "<svg" not in page
    assert "pip install &#39;mbqa-bundle[report]&#39;" in page


@pytest.mark.slow
def test_plots_leave_nothing_in_home(tmp_path: Path) -> None:
    code = (
        "from bundler.report import render_report; from tests import evaluations\n"
        "assert render_report(evaluations.document(3)).count('<svg') == 4"
    )
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, check=True, timeout=120)
    assert [path.name for path in tmp_path.rglob("*")] == ["tmp"]


def test_plots_have_the_pages_colours_and_fonts(page: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 4
    for drawing in drawings:
        assert not re.search(r"#0[1-5]0|#000000|DejaVu|xmlns|<style", drawing)
        assert "var(--s0)" in drawing or "var(--s3)" in drawing
        names = set(re.findall(r' id="([^"]+)"', drawing))
        assert set(re.findall(r'#([\w-]+)\)?"', drawing)) == names


def test_what_auto_tried_is_a_table_once_a_bundle() -> None:
    made = evaluations.document()
    check = {"windows": 16, "equal_answers": 13, "correlation": 0.99, "sqnr_db": 17.83, "calibrated": 0}
    tried = {"precision": "w8a8", "mixed": True, "here": check, "simulator": None, "dlc_bytes": None}
    taken = {
        "precision": "w8a16",
        "mixed": False,
        "here": check | {"equal_answers": 16},
        "simulator": check | {"sqnr_db": None},
        "dlc_bytes": 35_100_000,
    }
    for run in made["runs"]:
        run["trials"] = [tried, taken]
        run["bundle"] = "the same"
    page = render_report(made)
    rows = re.findall(r"<tr><th scope=\"row\"><bdi>(.*?)</tr>", page)
    told = [re.sub("<.*?>", "|", row) for row in rows if "of 16" in row]
    assert [re.sub(r"\|+", "|", row).strip("|") for row in told] == [
        "w8a8| --mixed|cpu fp32|13 of 16|17.8|–|–|–|no",
        "w8a16|cpu fp32|16 of 16|17.8|13 of 16|–|35.1|yes",
    ]
    for run in made["runs"]:
        run["trials"] = []
    assert "Precisions tried" not in render_report(made)
