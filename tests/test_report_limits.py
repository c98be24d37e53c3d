"""Tests the report's limits in a real browser: hostile texts, a narrow phone, a long text, very many questions."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundler.report import write_report
from tests import evaluations, hostile_evaluation
from tests.browser import Browser, browser, until, why_no_browser

pytestmark = pytest.mark.skipif(bool(why_no_browser()), reason=why_no_browser())


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as made:
        made.size(1280, 900)
        made.scheme("light")
        yield made


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes the page of a document once."""
    folder = tmp_path_factory.mktemp("pages")
    documents = {
        "believable": evaluations.document,
        "hostile": hostile_evaluation.hostile,
        "bare": evaluations.bare,
        "large": lambda: evaluations.document(10_000),
    }

    def page(name: str) -> Path:
        path = folder / f"{name}.html"
        if not path.exists():
            write_report(documents[name](), path)
        return path

    return page


@pytest.mark.slow
def test_hostile_texts_run_nothing(chromium: Browser, pages: Callable[[str], Path]) -> None:
    page = pages("hostile")
    chromium.open(page)
    chromium.run("window.hacked = () => (window.wasHacked = true)")
    chromium.to_questions()
    chromium.click("[data-best]")
    for _ in range(30):
        chromium.press("j")
    assert 'aria-posinset="30"' in chromium.focus()
    assert chromium.run("return window.wasHacked ?? false") is False
    assert chromium.run("return document.querySelectorAll('img, b, iframe, script').length") == 2
    shown = chromium.run("return document.querySelector('article:focus h3').textContent")
    assert shown.startswith(hostile_evaluation.HOSTILE[9])
    assert chromium.complaints() == []
    assert chromium.requests() == [page.as_uri()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["believable", "hostile", "bare"])
def test_fits_a_narrow_phone(chromium: Browser, pages: Callable[[str], Path], name: str) -> None:
    chromium.size(360, 740)
    try:
        chromium.open(pages(name))
        assert chromium.run("return document.documentElement.scrollWidth") == 360
        chromium.to_questions()
        chromium.click("[data-best]")
        assert chromium.run("return document.documentElement.scrollWidth") == 360
    finally:
        chromium.size(1280, 900)


@pytest.mark.slow
def test_of_ten_thousand_questions_only_a_window_is_drawn(chromium: Browser, pages: Callable[[str], Path]) -> None:
    chromium.open(pages("large"))
    until(lambda: chromium.count() == "10,000 of 10,000 questions")
    for place in (0.0, 0.5, 1.0):
        chromium.run("scrollTo(0, arguments[0] * document.documentElement.scrollHeight)", place)
        until(lambda: chromium.cards() or place == 0.0)  # noqa: B023
        assert chromium.cards() < 100
    last = "return Math.max(...[...document.querySelectorAll('article')].map(a => Number(a.ariaPosInSet)))"
    until(lambda: chromium.run("scrollTo(0, document.documentElement.scrollHeight)") or chromium.run(last) == 10_000)
    assert chromium.complaints() == []


def test_of_a_long_text_the_part_around_the_answer_is_shown(chromium: Browser, tmp_path: Path) -> None:
    document = evaluations.document(1)
    start = 3000 + document["contexts"][0].index(document["questions"][0]["golds"][0])
    document["contexts"] = ["word " * 600 + document["contexts"][0] + " word" * 600]
    for answer in (document["questions"][0]["reference"], *document["questions"][0]["runs"]):
        answer.update(answer=document["questions"][0]["golds"][0], start=start)
        answer["end"] = start + len(answer["answer"])
    write_report(document, tmp_path / "long.html")
    chromium.open(tmp_path / "long.html")
    chromium.to_questions()
    length = "return document.querySelector('.context').textContent.length"
    excerpt = chromium.run(length)
    assert excerpt < 1500
    assert chromium.run("return document.querySelector('.context').textContent").startswith("… ")
    chromium.click("[data-whole]")
    assert chromium.run(length) > 6000
    assert "Show less" in chromium.focus()
    chromium.click("[data-whole]")
    assert chromium.run(length) == excerpt
