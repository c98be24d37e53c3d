"""Tests the report's interaction in a real browser."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundler.report import write_report
from tests import evaluations
from tests.browser import Browser, browser, until, why_no_browser

pytestmark = pytest.mark.skipif(bool(why_no_browser()), reason=why_no_browser())


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as made:
        made.size(1280, 900)
        made.scheme("light")
        yield made


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "report.html"
    write_report(evaluations.document(), path)
    return path


@pytest.fixture
def tab(chromium: Browser, page: Path) -> Iterator[Browser]:
    """Opens the realistic page at its list of questions. After each test: no complaint, and no request."""
    chromium.open(page)
    chromium.to_questions()
    yield chromium
    assert chromium.complaints() == []
    assert {address.partition("#")[0] for address in chromium.requests()} == {page.as_uri()}


def shows(tab: Browser, count: int) -> None:
    until(lambda: tab.count() == f"{count} of 60 questions")


def counted(test: Callable[[dict], bool]) -> int:
    """Counts the questions of the realistic document for which a run's answer meets the test."""
    return sum(any(map(test, row["runs"])) for row in evaluations.document()["questions"])


@pytest.mark.parametrize(
    ("name", "test"),
    [
        ("wrong", lambda answer: not answer["exact"]),
        ("differs", lambda answer: not answer["agrees"]),
        ("none", lambda answer: answer["answer"] == ""),
    ],
)
def test_filters(tab: Browser, name: str, test: Callable[[dict], bool]) -> None:
    count = counted(test)
    assert 0 < count < 60
    assert tab.run(f"return document.querySelector('[data-filter={name}] .n').textContent") == str(count)
    tab.click(f"[data-filter={name}]")
    shows(tab, count)
    assert tab.run(f"return document.querySelector('[data-filter={name}]').ariaPressed") == "true"
    assert tab.run("return location.hash") == f"#only={name}"
    tab.click(f"[data-filter={name}]")
    shows(tab, 60)


@pytest.mark.parametrize("part", ["id", "question", "answer", "context"])
def test_search(tab: Browser, part: str) -> None:
    row = evaluations.document()["questions"][7]
    words = {
        "id": row["id"],
        "question": row["question"].upper(),
        "answer": row["runs"][0]["answer"],
        "context": evaluations.document()["contexts"][row["context"]][:60],
    }[part]
    tab.press("/")
    assert 'id="search"' in tab.focus()
    tab.press(words)
    until(lambda: tab.count() != "60 of 60 questions")
    until(lambda: row["id"] in tab.run("return document.getElementById('list').textContent"))
    tab.press("\ue00c")  # Escape
    shows(tab, 60)


def test_a_view_survives_in_the_address(tab: Browser, page: Path) -> None:
    tab.click("[data-filter=wrong]")
    tab.run("const run = document.getElementById('run'); run.value = '4'; run.dispatchEvent(new Event('change'))")
    tab.run(
        "const box = document.getElementById('search'); box.value = 'Who & <b>'; box.dispatchEvent(new Event('input'))"
    )
    shows(tab, 0)
    address = tab.run("return location.href")
    assert address.endswith("#q=Who+%26+%3Cb%3E&only=wrong&run=4")
    tab.open(page, "#" + address.partition("#")[2])
    shows(tab, 0)
    assert "No question is like that." in tab.run("return document.getElementById('list').textContent")
    tab.run("location.hash = '#only=wrong&run=4'")
    rows = evaluations.document()["questions"]
    shows(tab, sum(not row["runs"][4]["exact"] for row in rows))


def test_an_order_brings_the_worst_to_the_top(tab: Browser, page: Path) -> None:
    tab.open(page, "#order=sure")
    rows = evaluations.document()["questions"]
    least = min(rows, key=lambda row: min(answer["confidence"] for answer in row["runs"]))
    tab.to_questions()
    assert least["id"] in tab.run("return document.querySelector('article').textContent")


def test_the_answer_stands_highlighted_in_its_context(tab: Browser) -> None:
    rows = evaluations.document()["questions"]
    number = next(place for place, row in enumerate(rows) if row["runs"][0]["exact"] and row["golds"])
    marked = tab.run(
        "return [...document.querySelectorAll(arguments[0])].map(mark => mark.textContent)",
        f"article[data-index='{number}'] mark.answer.truth",
    )
    assert "".join(marked) == rows[number]["golds"][0]


def test_a_filter_highlights_the_answer_that_meets_it(tab: Browser) -> None:
    tab.click("[data-filter=differs]")
    rows = evaluations.document()["questions"]
    row = next(row for row in rows if not all(answer["agrees"] for answer in row["runs"]))
    first = next(place for place, answer in enumerate(row["runs"]) if not answer["agrees"])
    tab.to_questions()
    chosen = tab.run("return document.querySelector('article .chosen').textContent")
    assert evaluations.RUNS[first][0] in chosen
    assert "differs from the reference" in chosen


def test_n_best_opens_and_closes_by_keyboard(tab: Browser) -> None:
    tab.press("j")
    assert 'aria-posinset="1"' in tab.focus()
    tab.press("\ue004")  # Tab
    assert 'aria-expanded="false"' in tab.focus()
    tab.press("\ue007")  # Enter
    until(lambda: 'aria-expanded="true"' in tab.focus())
    opened = (
        "return document.getElementById(document.activeElement.getAttribute('aria-controls'))?.children.length ?? 0"
    )
    first = evaluations.document()["questions"][0]["runs"][0]
    assert tab.run(opened) == len(first["n_best"])
    tab.press("\ue007")
    until(lambda: 'aria-expanded="false"' in tab.focus())
    assert tab.run(opened) == 0


def test_j_and_k_walk_beyond_what_is_drawn(tab: Browser) -> None:
    for _ in range(20):
        tab.press("j")
    assert 'aria-posinset="20"' in tab.focus()
    tab.press("k")
    assert 'aria-posinset="19"' in tab.focus()


def test_everything_is_reached_by_tab_and_seen_there(tab: Browser) -> None:
    tab.run("scrollTo(0, 0); document.activeElement.blur()")
    met = []
    for _ in range(14):
        tab.press("\ue004")
        met.append(
            tab.run(
                "return document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
            )
        )
        style = "const s = getComputedStyle(document.activeElement.closest('label.search') ?? document.activeElement)"
        assert tab.run(f"{style}; return s.outlineStyle") == "solid", met
    assert met[:3] == ["skip", "theme", "wide"]
    assert {"search", "run", "order"} <= set(met)


def test_dark_and_light(tab: Browser) -> None:
    paper = "return getComputedStyle(document.documentElement).backgroundColor"
    light = tab.run(paper)
    tab.click("#theme")
    dark = tab.run(paper)
    assert dark != light
    tab.click("#theme")
    assert tab.run(paper) == light
    tab.scheme("dark")
    try:
        tab.run("delete document.documentElement.dataset.theme")
        assert tab.run(paper) == dark
    finally:
        tab.scheme("light")
