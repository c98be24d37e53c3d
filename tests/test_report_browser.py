"""The report in a real browser: what a person does with it, and what the page must never do."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundler.report import write_report
from tests import evaluations, hostile_evaluation
from tests.browser import Browser, browser, why_no_browser

pytestmark = pytest.mark.skipif(bool(why_no_browser()), reason=why_no_browser())
PATIENCE_S = 60
COUNT = "return document.getElementById('shown').textContent"
TO_QUESTIONS = "document.getElementById('questions').scrollIntoView()"
CARDS = "return document.querySelectorAll('article').length"
FOCUS = "return document.activeElement.outerHTML.slice(0, 200)"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as made:
        made.size(1280, 900)
        made.scheme("light")
        yield made


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The page of a document, written once."""
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


@pytest.fixture
def tab(chromium: Browser, pages: Callable[[str], Path]) -> Iterator[Browser]:
    """The believable page at its list of questions. After each test: no complaint, and nothing was asked for."""
    page = pages("believable")
    chromium.open(page)
    chromium.run(TO_QUESTIONS)
    until(lambda: chromium.run(CARDS))
    yield chromium
    assert chromium.complaints() == []
    assert {address.partition("#")[0] for address in chromium.requests()} == {page.as_uri()}


def until(what: Callable[[], object]) -> None:
    """Waits for what the page does in its own time."""
    limit = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < limit, "the page did not come to it"
        time.sleep(0.05)


def press(tab: Browser, key: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(tab.driver).send_keys(key).perform()


def click(tab: Browser, selector: str) -> None:
    tab.run("document.querySelector(arguments[0]).click()", selector)


def shows(tab: Browser, count: int, total: int = 60) -> None:
    until(lambda: tab.run(COUNT) == f"{count:,} of {total:,} questions")


def counted(test: Callable[[dict], bool]) -> int:
    """Questions of the believable document of which a run's answer meets the test."""
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
    click(tab, f"[data-filter={name}]")
    shows(tab, count)
    assert tab.run(f"return document.querySelector('[data-filter={name}]').ariaPressed") == "true"
    assert tab.run("return location.hash") == f"#only={name}"
    click(tab, f"[data-filter={name}]")
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
    press(tab, "/")
    assert 'id="search"' in tab.run(FOCUS)
    press(tab, words)
    until(lambda: tab.run(COUNT) != "60 of 60 questions")
    until(lambda: row["id"] in tab.run("return document.getElementById('list').textContent"))
    press(tab, "\ue00c")  # Escape
    shows(tab, 60)


def test_a_view_survives_in_the_address(tab: Browser, pages: Callable[[str], Path]) -> None:
    click(tab, "[data-filter=wrong]")
    tab.run("const run = document.getElementById('run'); run.value = '4'; run.dispatchEvent(new Event('change'))")
    tab.run(
        "const box = document.getElementById('search'); box.value = 'Who & <b>'; box.dispatchEvent(new Event('input'))"
    )
    shows(tab, 0)
    address = tab.run("return location.href")
    assert address.endswith("#q=Who+%26+%3Cb%3E&only=wrong&run=4")
    tab.open(pages("believable"), "#" + address.partition("#")[2])
    shows(tab, 0)
    assert "No question is like that." in tab.run("return document.getElementById('list').textContent")
    tab.run("location.hash = '#only=wrong&run=4'")
    rows = evaluations.document()["questions"]
    shows(tab, sum(not row["runs"][4]["exact"] for row in rows))


def test_an_order_brings_the_worst_to_the_top(tab: Browser, pages: Callable[[str], Path]) -> None:
    tab.open(pages("believable"), "#order=sure")
    rows = evaluations.document()["questions"]
    least = min(rows, key=lambda row: min(answer["confidence"] for answer in row["runs"]))
    tab.run(TO_QUESTIONS)
    until(lambda: tab.run(CARDS))
    assert least["id"] in tab.run("return document.querySelector('article').textContent")


def test_the_answer_stands_highlighted_in_its_context(tab: Browser) -> None:
    rows = evaluations.document()["questions"]
    number = next(place for place, row in enumerate(rows) if row["runs"][0]["exact"] and row["golds"])
    marked = tab.run(
        "return [...document.querySelectorAll(arguments[0])].map(mark => mark.textContent)",
        f"article[data-index='{number}'] mark.answer.truth",
    )
    assert "".join(marked) == rows[number]["golds"][0]


def test_n_best_opens_and_closes_by_keyboard(tab: Browser) -> None:
    press(tab, "j")
    assert 'aria-posinset="1"' in tab.run(FOCUS)
    press(tab, "\ue004")  # Tab
    assert 'aria-expanded="false"' in tab.run(FOCUS)
    press(tab, "\ue007")  # Enter
    until(lambda: 'aria-expanded="true"' in tab.run(FOCUS))
    opened = (
        "return document.getElementById(document.activeElement.getAttribute('aria-controls'))?.children.length ?? 0"
    )
    first = evaluations.document()["questions"][0]["runs"][0]
    assert tab.run(opened) == len(first["n_best"])
    press(tab, "\ue007")
    until(lambda: 'aria-expanded="false"' in tab.run(FOCUS))
    assert tab.run(opened) == 0


def test_j_and_k_walk_beyond_what_is_drawn(tab: Browser) -> None:
    for _ in range(20):
        press(tab, "j")
    assert 'aria-posinset="20"' in tab.run(FOCUS)
    press(tab, "k")
    assert 'aria-posinset="19"' in tab.run(FOCUS)


def test_everything_is_reached_by_tab_and_seen_there(tab: Browser) -> None:
    tab.run("scrollTo(0, 0); document.activeElement.blur()")
    met = []
    for _ in range(14):
        press(tab, "\ue004")
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
    click(tab, "#theme")
    dark = tab.run(paper)
    assert dark != light
    click(tab, "#theme")
    assert tab.run(paper) == light
    tab.scheme("dark")
    try:
        tab.run("delete document.documentElement.dataset.theme")
        assert tab.run(paper) == dark
    finally:
        tab.scheme("light")


def test_hostile_texts_run_nothing(chromium: Browser, pages: Callable[[str], Path]) -> None:
    page = pages("hostile")
    chromium.open(page)
    chromium.run("window.hacked = () => (window.wasHacked = true)")
    chromium.run(TO_QUESTIONS)
    until(lambda: chromium.run(CARDS))
    click(chromium, "[data-best]")
    for _ in range(30):
        press(chromium, "j")
    assert 'aria-posinset="30"' in chromium.run(FOCUS)
    assert chromium.run("return window.wasHacked ?? false") is False
    assert chromium.run("return document.querySelectorAll('img, b, iframe, script').length") == 2
    shown = chromium.run("return document.querySelector('article:focus h3').textContent")
    assert shown.startswith(hostile_evaluation.HOSTILE[9])
    assert chromium.complaints() == []
    assert chromium.requests() == [page.as_uri()]


@pytest.mark.parametrize("name", ["believable", "hostile", "bare"])
def test_fits_a_narrow_phone(chromium: Browser, pages: Callable[[str], Path], name: str) -> None:
    chromium.size(360, 740)
    try:
        chromium.open(pages(name))
        assert chromium.run("return document.documentElement.scrollWidth") == 360
        chromium.run(TO_QUESTIONS)
        until(lambda: chromium.run(CARDS))
        click(chromium, "[data-best]")
        assert chromium.run("return document.documentElement.scrollWidth") == 360
    finally:
        chromium.size(1280, 900)


def test_of_ten_thousand_questions_only_a_window_is_drawn(chromium: Browser, pages: Callable[[str], Path]) -> None:
    chromium.open(pages("large"))
    shows(chromium, 10_000, 10_000)
    for place in (0.0, 0.5, 1.0):
        chromium.run("scrollTo(0, arguments[0] * document.documentElement.scrollHeight)", place)
        until(lambda: chromium.run(CARDS) or place == 0.0)  # noqa: B023
        assert chromium.run(CARDS) < 100
    last = "return Math.max(...[...document.querySelectorAll('article')].map(a => Number(a.ariaPosInSet)))"
    until(lambda: chromium.run("scrollTo(0, document.documentElement.scrollHeight)") or chromium.run(last) == 10_000)
    assert chromium.complaints() == []
