"""Tests the report's figures and their format."""

import re

import pytest

from bundler.evaluation.rows import unscored
from bundler.report.figures import change, figure, gate_limit, gate_value, is_simulated, percent
from bundler.report.questions import embedded, utf16
from bundler.report.statistics import gap, interval, reliability
from bundler.resources import TEMPLATES
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


def test_times_of_a_simulator_are_called_so() -> None:
    document = evaluations.document(3)
    assert not is_simulated(document)
    document["runs"][1]["phones"][0]["model"] = "Virtual_Snapdragon_8_Gen_3"
    assert is_simulated(document)
    document["runs"][1]["latency"] = None
    assert not is_simulated(document)


def test_the_formulas_behind_the_plots() -> None:
    assert interval(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    assert interval(0, 5)[0] == pytest.approx(0.0)
    assert interval(5, 5)[1] == pytest.approx(1.0)
    bins = reliability([(0.95, True), (1.0, True), (0.05, False), (0.08, True)])
    assert [(one.count, one.right) for one in bins] == [(2, 0.5), (2, 1.0)]
    assert gap(bins) == pytest.approx(0.5 * (0.5 - 0.065) + 0.5 * (1 - 0.975))


def test_what_a_gate_asks_for() -> None:
    gates = [{"name": "min-f1", "limit": 80.0, "value": 91.25}, {"name": "min-agreement", "limit": 0.95, "value": 0.9}]
    gates += [{"name": "max-p90-ms", "limit": 8.0, "value": None}, {"name": "other", "limit": 1.0, "value": 2.0}]
    assert [(gate_limit(gate), gate_value(gate)) for gate in gates] == [
        ("F1 at least 80.0 %", "91.2 %"),
        ("same answers at least 95.0 %", "90.0 %"),
        ("p90 at most 8.00 ms", "not known"),
        ("other: 1.00", "2.00"),
    ]


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_that_wcag_asks_for(theme: int) -> None:
    """AA requires 4.5 to 1 for text, 3 to 1 for the contents of a plot or a border."""
    style = (TEMPLATES / "report.css").read_text()
    colours = {name: pair[theme] for name, *pair in re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", style)}

    def contrast(one: str, other: str) -> float:
        low, high = sorted(luminance(colours[name]) for name in (one, other))
        return (high + 0.05) / (low + 0.05)

    grounds = ("paper", "surface", "raised")
    texts = [(text, ground) for text in ("ink", "muted", "accent", "good", "bad") for ground in grounds]
    texts += [("ink", "tint"), ("ink", "other"), ("paper", "accent")]
    assert [pair for pair in texts if contrast(*pair) < 4.5] == []
    marks = [(f"s{number}", ground) for number in range(8) for ground in grounds] + [
        ("edge", "paper"),
        ("edge", "surface"),
    ]
    assert [pair for pair in marks if contrast(*pair) < 3] == []


def test_scores_of_a_part_of_the_questions_are_called_so() -> None:
    made = evaluations.document()
    assert unscored(made) == []
    made["questions_count"] += 2
    (line,) = unscored(made)
    total = made["reference"]["scores"]["total"]
    assert line.startswith(f"EM and F1 are of {total} of {total + 2} questions: the others have no known answer")
    made["reference"]["scores"] = None
    assert unscored(made) == []
