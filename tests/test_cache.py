"""Tests the cache of conversions: a cached DLC is reused, and equals a new conversion."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler import layout
from bundler.dlc import cache
from bundler.dlc.inspect import DlcReport, inspect_dlc
from bundler.errors import ModelInvalid
from bundler.model.convert import onnx_to_dlc
from bundler.model.graph import FitGraph, fit_for_htp
from bundler.model.half import check_range
from bundler.model.make import Recipe
from bundler.pipeline.build import BuildRequest, CalibrationRequest, build_bundle
from bundler.types import Question, QuestionSet
from tests.deploying import quiet
from tests.models import qa_model

OTHERS = QuestionSet((Question("other", "Who built the bridge?", "Who? An old museum built the tower."),), False)
Convert = Callable[..., None]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sets a separate cache for this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mbqa-bundle" / "dlc"


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the names of the written DLCs."""
    written: list[str] = []

    def counted(model: Path, dlc: Path, *rest: object, **named: object) -> None:
        written.append(dlc.name)
        convert(model, dlc, *rest, **named)

    convert: Convert = onnx_to_dlc
    monkeypatch.setattr("bundler.model.make.onnx_to_dlc", counted)
    return written


def quantized(request: BuildRequest) -> BuildRequest:
    """Returns the request at w8a8, with separate questions for calibration."""
    own = CalibrationRequest(questions=request.questions, name="own.json")
    return replace(request, recipe=Recipe("w8a8", converter="built-in"), calibration=own)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8a8"])
def test_other_questions_convert_nothing(
    precision: str, request_for: BuildRequest, conversions: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checks also that no separate process inspects the DLC again."""
    request, looks = request_for, []

    def look(dlc: Path) -> DlcReport:
        looks.append(dlc)
        return inspect_dlc(dlc)

    monkeypatch.setattr("bundler.model.origin.inspect_dlc", look)
    if precision == "fp16":
        request = replace(request, recipe=Recipe("fp16", converter="built-in"))
    if precision == "w8a8":
        request = quantized(request)
    one = build_bundle(request, tmp_path / "one", quiet)
    assert conversions
    assert len(looks) == 1
    conversions.clear()
    other = build_bundle(replace(request, questions=OTHERS), tmp_path / "other", quiet)
    assert not conversions
    assert len(looks) == 1
    assert other.manifest.model == one.manifest.model
    assert [question.id for question in other.questions] == ["other"]
    anew = build_bundle(replace(request, questions=OTHERS, cache=False), tmp_path / "anew", quiet)
    assert conversions
    assert len(looks) == 2
    assert anew.id == other.id


@pytest.mark.slow
def test_a_check_has_its_float32_model(request_for: BuildRequest, tmp_path: Path) -> None:
    request = replace(quantized(request_for), check=True)
    first = build_bundle(request, tmp_path / "first", quiet)
    second = build_bundle(request, tmp_path / "second", quiet)
    assert first.id == second.id
    assert first.manifest.model.check is not None


@pytest.mark.slow
def test_what_differs_is_converted(
    request_for: BuildRequest, conversions: list[str], tmp_path: Path, model_folder: Path
) -> None:
    build_bundle(request_for, tmp_path / "one", quiet)
    (tmp_path / "other.onnx").write_bytes(qa_model(hidden=24).SerializeToString())
    others = [
        replace(request_for, model=tmp_path / "other.onnx", tokenizer=model_folder / "vocab.txt"),
        replace(request_for, recipe=Recipe("w8a16", converter="built-in")),
        replace(request_for, recipe=Recipe("w8a16", converter="built-in"), questions=OTHERS),
    ]
    for number, request in enumerate(others):
        conversions.clear()
        build_bundle(request, tmp_path / f"bundle{number}", quiet)
        assert "model.dlc" in conversions


def test_a_damaged_dlc_is_not_taken(
    request_for: BuildRequest, conversions: list[str], folder: Path, tmp_path: Path
) -> None:
    one = build_bundle(request_for, tmp_path / "one", quiet)
    for path in folder.glob("*.dlc"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    conversions.clear()
    assert build_bundle(request_for, tmp_path / "other", quiet).id == one.id
    assert conversions == ["model.dlc"]


def test_a_graph_is_fitted_once(request_for: BuildRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks that a new question's values in float16 are still examined."""
    request = replace(request_for, recipe=Recipe("fp16", converter="built-in"))
    build_bundle(request, tmp_path / "one", quiet)
    done: list[str] = []

    def fit(*given: Any) -> FitGraph:
        done.append("fitted")
        return fit_for_htp(*given)

    def look(*given: Any) -> str:
        done.append("looked")
        return check_range(*given)

    monkeypatch.setattr("bundler.model.fitting.fit_for_htp", fit)
    monkeypatch.setattr("bundler.model.make.check_range", look)
    other = build_bundle(replace(request, questions=OTHERS), tmp_path / "other", quiet)
    assert done == ["looked"]
    anew = build_bundle(replace(request, questions=OTHERS, cache=False), tmp_path / "anew", quiet)
    assert done == ["looked", "fitted", "looked"]
    assert anew.id == other.id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        '{"made": {"exponents": 3}}',
        '{"made": {"odd": 1}, "content": ""}',
        '{"masked": [], "axes": 3}',
    ],
)
def test_a_damaged_note_is_not_taken(text: str, request_for: BuildRequest, folder: Path, tmp_path: Path) -> None:
    one = build_bundle(request_for, tmp_path / "one", quiet)
    for kept in folder.glob("*.json"):
        kept.write_text(text)
    assert build_bundle(request_for, tmp_path / "other", quiet).id == one.id


def test_a_folder_that_cannot_be_written_to_keeps_nothing(
    request_for: BuildRequest, conversions: list[str], folder: Path, tmp_path: Path
) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("a file in its place")
    for name in ("one", "other"):
        build_bundle(request_for, tmp_path / name, quiet)
    assert conversions == ["model.dlc"] * 2


def test_a_model_that_is_refused_is_refused_again(
    request_for: BuildRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ModelInvalid("model.onnx", "it is odd")

    monkeypatch.setattr("bundler.model.make.onnx_to_dlc", refuse)
    for name in ("one", "other"):
        with pytest.raises(ModelInvalid, match="it is odd"):
            build_bundle(request_for, tmp_path / name, quiet)


def test_the_oldest_go(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_BYTES", 25)
    for number, key in enumerate("abc"):
        (tmp_path / key).write_bytes(key.encode() * 10)
        cache.keep(key, tmp_path / key)
        for path in folder.glob(f"{key}-*"):
            os.utime(path, (number, number))
    assert cache.cached("a") is None
    kept = cache.cached("b")
    assert kept is not None
    assert kept.read_bytes() == b"b" * 10
    (tmp_path / "d").write_bytes(b"d" * 10)
    cache.keep("d", tmp_path / "d")  # c is the oldest now: b was used
    assert cache.cached("c") is None
    assert cache.cached("b") is not None
    assert layout.MODEL not in {path.name for path in folder.iterdir()}
