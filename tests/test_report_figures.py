"""What the report counts and how it writes it."""

import pytest

from bundler.report.figures import change, figure, percent
from bundler.report.questions import embedded, utf16
from bundler.report.statistics import gap, interval, quantiles, reliability
from tests import evaluations


def test_places_count_as_javascript_counts() -> None:
    text = "ab🏠c橋"
    places = utf16(text)
    assert [places(place) for place in range(len(text) + 1)] == [0, 1, 2, 4, 5, 6]
    assert utf16("橋")(1) == 1
    document = evaluations.document(1)
    document["contexts"] = ["🏠 in 1808"]
    document["questions"][0]["reference"] = {"answer": "1808", "start": 5, "end": 9, "confidence": 1.0}
    assert embedded(document)["questions"][0]["reference"] == (6, 10, 1.0)


def test_an_answer_that_is_not_the_contexts_own_brings_its_text() -> None:
    document = evaluations.document(1)
    row = document["questions"][0]
    row["reference"] = {"answer": "elsewhere", "start": 0, "end": 4, "confidence": 0.5}
    row["runs"][0].update(answer="", start=3, end=9, confidence=0.25)
    question = embedded(document)["questions"][0]
    assert question["reference"] == (0, 0, 0.5, "elsewhere")
    assert question["runs"][0]["at"] == (0, 0, 0.25)


def test_how_a_figure_is_written() -> None:
    assert figure(None) == figure(float("nan")) == "–"
    assert figure(-1234.56) == "−1\u202f234.6"
    assert figure(float("-inf")) == "−∞"
    assert [change(value, 80.0) for value in (80.0, 80.04, 79.96, 81.0, 78.9, None)] == [
        *("±0.0", "±0.0", "±0.0", "+1.0", "−1.1", ""),
    ]
    assert [percent(share) for share in (1.0, 0.9999, 0.5)] == ["100", "99.9", "50.0"]


def test_the_formulas_behind_the_plots() -> None:
    assert interval(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    assert interval(0, 5)[0] == pytest.approx(0.0)
    assert interval(5, 5)[1] == pytest.approx(1.0)
    assert quantiles([1.0, 2.0, 4.0], 4) == [1.0, 1.5, 2.0, 3.0, 4.0]
    assert quantiles([7.0], 2) == [7.0, 7.0, 7.0]
    bins = reliability([(0.95, True), (1.0, True), (0.05, False), (0.08, True)])
    assert [(one.count, one.right) for one in bins] == [(2, 0.5), (2, 1.0)]
    assert gap(bins) == pytest.approx(0.5 * (0.5 - 0.065) + 0.5 * (1 - 0.975))
