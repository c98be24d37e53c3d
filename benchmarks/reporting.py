"""Measures the report about many questions: the time to write it, and to open it in a browser."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.ground import Ground, NotHere
from benchmarks.race import Sides, timed
from bundler.report import write_report
from tests import evaluations
from tests.browser import Browser, browser, until, why_no_browser

QUESTIONS, FEW = 10_000, 50


def written(ground: Ground) -> Sides:
    """Measures the time from an evaluation's document to the page on disk."""
    document, path = evaluations.document(ground.size(QUESTIONS, FEW)), ground.folder / "written.html"
    return Sides(timed(lambda: write_report(document, path)))


def opened(ground: Ground) -> Sides:
    """Measures the time from Chromium's request of the page until it shows the number of questions."""
    count, tab = ground.size(QUESTIONS, FEW), ground.opened(_chromium)
    page = ground.folder / "opened.html"
    write_report(evaluations.document(count), page)
    shown = f"{count:,} of {count:,} questions"

    def open_() -> None:
        tab.driver.get(page.as_uri())
        until(lambda: tab.count() == shown)

    return Sides(timed(open_), before=lambda: tab.driver.get("about:blank"))


@contextmanager
def _chromium(ground: Ground) -> Iterator[Browser]:
    if why := why_no_browser():
        raise NotHere(why)
    with browser(Path(ground.place("chromium"))) as tab:
        tab.size(1280, 900)
        yield tab
