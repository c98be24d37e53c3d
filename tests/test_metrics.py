"""Tests exact match and F1 on cases computed by hand, including typical mistakes of other implementations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.qa.metrics import Best, Metrics, QuestionScore, Rules, Total, exact_match, f1, normalized, score
from bundler.types import Question


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Tower", "tower"),
        ("the  tower,\tof a\nLondon!", "tower of london"),
        ("theatre", "theatre"),  # an article only where it is a word
        ("An apple a day", "apple day"),
        ("U.S.A.", "usa"),  # punctuation goes before articles: nothing is left in its place
        ("A.", ""),  # so this becomes an article
        ("the-an", "thean"),  # and these are joined first
        ("well-known", "wellknown"),
        ("$5,000", "5000"),
        ("\u201cquoted\u201d \u2013 so", "\u201cquoted\u201d \u2013 so"),  # only ASCII's punctuation goes
        ("caf\u00e9", "caf\u00e9"),  # accents stay
        ("\u6771\u4eac\u3000\u90fd", "\u6771\u4eac \u90fd"),  # any white space splits
        ("", ""),
        ("the a an", ""),
    ],
)
def test_normalized(text: str, expected: str) -> None:
    assert normalized(text) == expected


@pytest.mark.parametrize(
    ("prediction", "gold", "exact", "overlap"),
    [
        ("the Eiffel Tower", "Eiffel tower.", 1, 1),
        ("Tower", "Eiffel Tower", 0, 2 / 3),  # precision 1, recall 1/2
        ("Eiffel Tower in Paris", "Eiffel Tower", 0, 2 / 3),  # precision 1/2, recall 1
        ("to be or not to be", "to be", 0, 1 / 2),  # words count as often as they occur: 2 of 6, 2 of 2
        ("to to", "to be", 0, 1 / 2),  # not 1: the second "to" has no partner
        ("Paris", "London", 0, 0),
        ("1,000 km", "1000 km", 1, 1),
        ("be to", "to be", 0, 1),  # order is nothing to F1
    ],
)
@pytest.mark.parametrize("rules", ["1.1", "2.0"])
def test_pairs(prediction: str, gold: str, exact: int, overlap: float, rules: Rules) -> None:
    assert exact_match(prediction, gold) == exact
    assert f1(prediction, gold, rules) == pytest.approx(overlap)


@pytest.mark.parametrize(
    ("prediction", "gold", "exact", "by_11", "by_20"),
    [
        ("", "", 1, 0, 1),
        ("the", "", 1, 0, 1),  # nothing is left of it
        ("", "Paris", 0, 0, 0),
        ("Paris", "", 0, 0, 0),
        ("the", "a.", 1, 0, 1),
    ],
)
def test_nothing_left(prediction: str, gold: str, exact: int, by_11: int, by_20: int) -> None:
    assert exact_match(prediction, gold) == exact
    assert f1(prediction, gold, "1.1") == by_11
    assert f1(prediction, gold, "2.0") == by_20


def question(key: str, *answers: str, impossible: bool | None = None) -> Question:
    return Question(key, "?", "context", answers=answers, impossible=impossible)


def by_id(metrics: Metrics) -> dict[str, tuple[float, float]]:
    return {row.id: (row.exact, row.f1) for row in metrics.questions}


def test_the_best_of_several_golds_counts() -> None:
    """Exact match and F1 take their best gold independently."""
    found = score(
        [question("q", "Gustave Eiffel", "Eiffel", "the engineer Eiffel")], {"q": "an engineer Eiffel"}, "1.1"
    )
    assert by_id(found) == {"q": (1, 1)}
    found = score([question("q", "Gustave Eiffel", "Alexandre Gustave Eiffel")], {"q": "Alexandre Eiffel"}, "1.1")
    assert by_id(found)["q"] == pytest.approx((0, 0.8))


def test_version_11_totals() -> None:
    """Three questions: right, half right, without prediction; the last one counts as wrong."""
    asked = [question("a", "1808"), question("b", "Ada Lovelace"), question("c", "Paris")]
    found = score(asked, {"a": "in 1808", "b": "Ada Lovelace"}, "1.1")
    assert (found.total.exact, found.total.f1) == pytest.approx((100 / 3, 100 * (2 / 3 + 1) / 3))
    assert found.total.questions == 3
    assert (found.has_answer, found.no_answer, found.best) == (None, None, None)
    assert [row.id for row in found.questions] == ["a", "b", "c"]
    assert found.questions[2] == QuestionScore("c", "", ("Paris",), answerable=True, exact=0, f1=0)
    assert found.rules == "1.1"


def test_version_11_of_a_question_without_an_answer() -> None:
    """The empty answer matches exactly, but its F1 is 0."""
    found = score([question("q", impossible=True)], {"q": ""}, "1.1")
    assert found.questions == (QuestionScore("q", "", ("",), answerable=False, exact=1, f1=0, null_odds=0),)


def test_version_20_passes_over_what_has_no_prediction() -> None:
    found = score([question("a", "1808"), question("c", "Paris")], {"a": "1808"}, "2.0")
    assert found.total == Total(100, 100, 1)


V2 = [
    question("has-right", "1808", impossible=False),
    question("has-wrong", "Paris", impossible=False),
    question("none-right", impossible=True),
    question("none-wrong", impossible=True),
]
SAID = {"has-right": "1808", "has-wrong": "", "none-right": "", "none-wrong": "London"}


def test_version_20_totals_apart() -> None:
    found = score(V2, SAID, "2.0")
    assert found.total == Total(50, 50, 4)
    assert found.has_answer == Total(50, 50, 2)
    assert found.no_answer == Total(50, 50, 2)
    assert found.best is None


def test_a_gold_of_articles_only_is_no_gold_by_version_20() -> None:
    """But the question still counts as answerable."""
    found = score([question("q", "the", "...")], {"q": ""}, "2.0")
    assert found.total == Total(100, 100, 1)
    assert found.has_answer == Total(100, 100, 1)
    assert found.no_answer is None
    found = score([question("q", "the", "Paris")], {"q": ""}, "2.0")
    assert found.total == Total(0, 0, 1)


def test_the_best_threshold() -> None:
    """Computed by hand: best spans as predictions, then the threshold is raised over one question after the other.

    Odds -5: right span (has answer): 2 of 4 from the start (both unanswerable), then 3.
    Odds -1: wrong span of one that has an answer, F1 1/2: exact stays 3, F1 3.5.
    Odds  2: a span for one without: 2, and 2.5.
    Odds  4: the same: 1, and 1.5.
    """
    asked = [question("a", "1808"), question("b", "Ada Lovelace"), question("c", impossible=True),
             question("d", impossible=True)]  # fmt: skip
    spans = {"a": "1808", "b": "Ada Byron", "c": "Paris", "d": "London"}
    odds = {"a": -5.0, "b": -1.0, "c": 2.0, "d": 4.0}
    found = score(asked, spans, "2.0", odds)
    assert found.best == Best(75, -5, 87.5, -1)
    assert found.total == Total(25, 37.5, 4)
    at_best = score(asked, spans, "2.0", odds, null_threshold=-1.0)
    assert at_best.total == Total(75, 87.5, 4)
    assert at_best.no_answer == Total(100, 100, 2)
    assert at_best.best == found.best  # found before the threshold is laid
    assert [row.prediction for row in at_best.questions] == ["1808", "Ada Byron", "", ""]


def test_no_answer_for_all_may_be_best() -> None:
    """The script then reports the threshold 0, whatever the odds."""
    asked = [question("a", "1808"), question("b", impossible=True)]
    found = score(asked, {"a": "1936", "b": "Paris"}, "2.0", {"a": -3.0, "b": -2.0})
    assert found.best == Best(50, 0, 50, 0)


def test_empty_predictions_cost_nothing_as_the_threshold_rises() -> None:
    asked = [question("a", "1808"), question("b", impossible=True), question("c", "1936")]
    found = score(asked, {"a": "1808", "b": "", "c": "1936"}, "2.0", {"a": 0.1, "b": 0.2, "c": 0.3})
    assert found.best == Best(100, 0.3, 100, 0.3)


def test_a_span_for_a_question_without_an_answer_costs_as_the_threshold_rises() -> None:
    """The score is 1 at the start; 0 above the odds of the wrong span, 1 again above those of a right one, then 2."""
    asked = [question("a", impossible=True), question("b", "1808"), question("c", "1936")]
    spans, odds = {"a": "Paris", "b": "1808", "c": "1936"}, {"a": -2.0, "b": 1.0, "c": 3.0}
    assert score(asked[:2], spans, "2.0", odds).best == Best(50, 0, 50, 0)
    assert score(asked, spans, "2.0", odds).best == Best(pytest.approx(200 / 3), 3, pytest.approx(200 / 3), 3)  # type: ignore[arg-type]


def test_an_answer_exactly_at_the_threshold_stays() -> None:
    found = score([question("a", "1808")], {"a": "1808"}, "2.0", {"a": 1.0}, null_threshold=1.0)
    assert found.total.exact == 100
    found = score([question("a", "1808")], {"a": "1808"}, "2.0", {"a": 1.0}, null_threshold=0.99)
    assert found.total.exact == 0


def test_what_has_no_truth_is_not_scored() -> None:
    found = score([question("a", "1808"), question("b")], {"a": "1808", "b": "anything"}, "2.0")
    assert [row.id for row in found.questions] == ["a"]
    with pytest.raises(ValueError, match=r"^no question whose truth is known has a prediction$"):
        score([question("b")], {"b": "anything"}, "1.1")


WORDS = st.text("ab .'", max_size=12)


@given(prediction=WORDS, gold=WORDS)
def test_bounds(prediction: str, gold: str) -> None:
    value = f1(prediction, gold)
    assert 0 <= exact_match(prediction, gold) <= value <= 1
    assert value == pytest.approx(f1(gold, prediction))


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["", "x", "y"]), st.integers(-3, 3)), min_size=1, max_size=8))
def test_the_best_is_at_least_what_any_threshold_gives(rows: list[tuple[bool, str, int]]) -> None:
    asked = [question(str(i), *(["x"] if has else []), impossible=not has) for i, (has, _, _) in enumerate(rows)]
    said = {str(i): text for i, (_, text, _) in enumerate(rows)}
    odds = {str(i): float(value) for i, (_, _, value) in enumerate(rows)}
    best = score(asked, said, "2.0", odds).best
    assert best is not None
    for threshold in (-4.0, *odds.values()):
        total = score(asked, said, "2.0", odds, threshold).total
        assert total.exact <= best.exact + 1e-9
        assert total.f1 <= best.f1 + 1e-9
