"""Tests the properties of the demo corpus, and runs the whole training script."""

import random
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"
sys.path.insert(0, str(TOOLS))

import demo_corpus  # noqa: E402
import demo_wordings  # noqa: E402
from demo_corpus import Example, Shape  # noqa: E402


def drawn(seed: int, *, count: int = 600, shape: Shape | None = None) -> list[Example]:
    names = demo_corpus.name_pools()[1]
    return list(islice(demo_corpus.draw_examples(random.Random(seed), names, shape or Shape()), count))


def test_answer_is_the_exact_slice_of_the_passage() -> None:
    for example in drawn(1):
        text = example.passage.text
        assert example.answerable == bool(example.answer)
        if example.answerable:
            assert text[example.answer_start :].startswith(example.answer)
        for fact in example.passage.facts:
            assert text[fact.answer_start :].startswith(fact.answer)
            assert fact.start <= fact.answer_start
            assert fact.answer_start + len(fact.answer) <= fact.end


def test_answerable_exactly_if_the_passage_tells() -> None:
    for example in drawn(2):
        told = {(fact.relation.name, fact.subject): fact.answer for fact in example.passage.facts}
        assert told.get((example.relation.name, example.subject), "") == example.answer


def test_facts_of_one_passage_have_different_answers() -> None:
    for example in drawn(3):
        answers = [fact.answer.lower() for fact in example.passage.facts]
        assert len(set(answers)) == len(answers)


def test_number_of_facts_and_subjects() -> None:
    examples = drawn(4)
    assert {len(e.passage.facts) for e in examples} == set(range(3, 9))
    assert {len(e.passage.subjects) for e in examples} == {1, 2}
    for example in examples:
        kinds = [subject.kind for subject in example.passage.subjects]
        assert len(set(kinds)) == len(kinds)
        assert sum(subject.group == demo_wordings.PERSON for subject in example.passage.subjects) <= 1


def test_passages_read_as_sentences() -> None:
    for example in drawn(5):
        assert "{" not in example.passage.text + example.question
        assert example.question.endswith("?")
        assert all(sentence[0].isupper() for sentence in example.passage.text.rstrip(".").split(". "))


def test_name_pools_do_not_overlap() -> None:
    train, held_out = demo_corpus.name_pools()
    for field in ("surnames", "towns", "subjects"):
        mine, theirs = getattr(train, field), getattr(held_out, field)
        assert len(mine) > len(theirs) > 40
        assert not set(mine) & set(theirs)
    names = [name for pool in (train, held_out) for name in (*pool.surnames, *pool.towns, *pool.subjects)]
    assert len(set(names)) == len(names)


def test_relations_and_wordings() -> None:
    relations = demo_wordings.RELATIONS
    assert len(demo_wordings.RELATION_IDS) == len(relations) >= 30
    for relation in relations:
        assert len(set(relation.facts)) >= 2
        assert len(set(relation.questions)) >= 2
        assert all("{s}" in wording and "{a}" in wording for wording in relation.facts)
        assert all("{s}" in wording and "{a}" not in wording for wording in relation.questions)
    questions = [
        (group, question) for relation in relations for group in relation.groups for question in relation.questions
    ]
    assert len(set(questions)) == len(questions), "a question that two relations answer"


def test_same_seed_same_text() -> None:
    assert drawn(6, count=50) == drawn(6, count=50)
    assert drawn(6, count=50) != drawn(7, count=50)


def test_guessing_by_answer_type_stays_low() -> None:
    examples = drawn(8, count=2000)
    assert sum(example.guess_chance() for example in examples) / len(examples) < 0.5
    assert 0.08 < sum(not example.answerable for example in examples) / len(examples) < 0.18


@pytest.mark.slow
def test_smoke_run_makes_all_files(tmp_path: Path) -> None:
    for module in ("torch", "transformers", "onnxsim", "onnxruntime"):
        pytest.importorskip(module)
    command = [sys.executable, str(TOOLS / "train_demo_model.py"), "--smoke", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.onnx",
        "tokenizer.json",
        "questions.json",
        "MODEL_CARD.md",
    }
    assert "Exact match" in (tmp_path / "MODEL_CARD.md").read_text()
