"""Tests the choice of `--precision auto`, and the measurements that it depends on."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from bundler.bundle import Check, read_bundle
from bundler.cli import main
from bundler.errors import ModelInvalid, SocUnfit
from bundler.evaluation import ladder
from bundler.evaluation.check import Judge
from bundler.evaluation.ladder import LADDER, choose_precision
from bundler.model.graph import FitGraph
from bundler.model.make import Job, Recipe
from bundler.soc import known_socs
from tests.deploying import quiet
from tests.models import qa_model, write_vocabulary

WINDOWS = 10


@dataclass
class Bench:
    """A model with known answers at each precision: how many of WINDOWS stay, here and on the simulator."""

    here: dict[str, int]
    simulator: dict[str, int]
    too_large: tuple[str, ...] = ()

    def choose(self, keep: float, monkeypatch: pytest.MonkeyPatch, soc: str = "SM8650") -> ladder.Chosen:
        written = []

        def rounded(job: Job, *_: Any) -> Any:
            name = ladder._name(job.recipe)
            if name in self.too_large:
                raise ModelInvalid("model", "weight x does not fit float16")
            return SimpleNamespace(name=name, graph=SimpleNamespace(logits=lambda _: name))

        def write(job: Job, fit: Any, drafted: Any, dlc: Path, progress: Any) -> Any:
            written.append(drafted.name)
            return SimpleNamespace(dlc_bytes=len(written))

        class Judging:
            feeds: tuple[Any, ...] = ()

            def check(_, computed: Any) -> Check:
                return Check(WINDOWS, self.here[computed], 1.0, 30.0)

            def check_dlc(_, *__: Any) -> Check:
                return Check(WINDOWS, self.simulator[written[-1]], 1.0, 30.0)

        monkeypatch.setattr(ladder, "round_graph", rounded)
        monkeypatch.setattr(ladder, "write_dlc", write)
        job = cast(Job, SimpleJob(Recipe("w8a8"), known_socs()[soc]))
        return choose_precision(job, cast(FitGraph, None), cast(Judge, Judging()), keep, Path("x"), quiet)


@dataclass(frozen=True)
class SimpleJob:
    recipe: Recipe
    soc: Any


ALL = {"w8a8": 2, "w8a8 --mixed": 5, "w8a16": 9, "w16a16": 10, "fp16": 10}


def taken(chosen: ladder.Chosen) -> str:
    return ladder._name(chosen.recipe)


@pytest.mark.parametrize(
    ("keep", "name", "looked_at"),
    [(0.2, "w8a8", 1), (0.5, "w8a8 --mixed", 2), (0.6, "w8a16", 3), (0.99, "w16a16", 4), (0.0, "w8a8", 1)],
)
def test_the_first_that_keeps_enough(keep: float, name: str, looked_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Bench(ALL, ALL).choose(keep, monkeypatch)
    assert taken(chosen) == name
    assert len(chosen.trials) == looked_at
    assert chosen.trials[-1].simulator is not None
    assert all(trial.simulator is None for trial in chosen.trials[:-1])


def test_the_simulator_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Bench(dict.fromkeys(ALL, 10), {**ALL, "w8a16": 10}).choose(1.0, monkeypatch)
    assert taken(chosen) == "w8a16"
    assert [trial.simulator.equal_answers for trial in chosen.trials if trial.simulator] == [2, 5, 10]


def test_the_best_where_none_keeps_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"w8a8": 2, "w8a8 --mixed": 7, "w8a16": 6, "w16a16": 5, "fp16": 1}
    chosen = Bench(found, found).choose(0.9, monkeypatch)
    assert taken(chosen) == "w8a8 --mixed"
    assert len(chosen.trials) == len(LADDER)
    assert (chosen.trials[-1].precision, chosen.trials[-1].mixed) == ("w8a8", True)


def test_what_does_not_fit_float16_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    found = dict.fromkeys(ALL, 5)
    chosen = Bench(found, found, too_large=("fp16",)).choose(0.9, monkeypatch)
    assert chosen.recipe.precision != "fp16"
    assert len(chosen.trials) == len(LADDER) - 1


def test_a_chip_whose_dsp_computes_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SocUnfit, match="computes none of the precisions that --precision auto tries"):
        Bench(ALL, ALL).choose(0.9, monkeypatch, soc="SM8250")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import onnx

    monkeypatch.chdir(tmp_path)
    onnx.save(qa_model(), "model.onnx")
    write_vocabulary(tmp_path)
    asked = [
        {"id": f"q{n}", "question": "When was it built?", "context": f"The bridge was built in {1800 + n}. It is old."}
        for n in range(6)
    ]
    (tmp_path / "q.json").write_text(json.dumps(asked))
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_build(capfd: pytest.CaptureFixture[str]) -> None:
    how = ("build", "--model", "model.onnx", "--questions", "q.json", "--converter", "built-in")
    assert main([*how, "--precision", "auto", "--keep", "0.5", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)["model"]
    model = read_bundle(Path("bundle")).manifest.model
    assert told["precision"] == model.precision == model.trials[-1].precision
    assert model.check == model.trials[-1].simulator
    assert model.check is not None
    assert (model.check.windows, model.check.calibrated) == (3, 0)
    if model.calibration is not None:
        assert model.calibration.windows == 3
    assert main([*how, "--precision", "auto", "--keep", "0.5"]) == 0
    said = capfd.readouterr().out
    assert "equal here" in said
    assert "that it was not calibrated on" in said


@pytest.mark.usefixtures("here")
def test_answers_that_are_lost_are_exit_code_8(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: Callable[..., Check] = lambda self, *_: Check(3, 1, 0.9, 3.0)  # noqa: E731
    monkeypatch.setattr(Judge, "check_dlc", lost)
    how = ("build", "--model", "model.onnx", "--questions", "q.json", "--converter", "built-in", "--precision", "w8a8")
    assert main([*how, "--check"]) == 0
    assert "warning: the DLC does not agree with float32: 1 of 3 answers are equal" in capfd.readouterr().err
    assert main([*how, "--keep", "0.9"]) == 8
    assert "bundle: 1 of 3 answers are float32's, and --keep asks for a share of 0.9" in capfd.readouterr().err
    assert read_bundle(Path("bundle")).manifest.model.check == Check(3, 1, 0.9, 3.0)


@pytest.mark.usefixtures("here")
def test_one_window_is_calibrated_on_and_judged_by(capfd: pytest.CaptureFixture[str]) -> None:
    how = ("build", "--model", "model.onnx", "--questions", "q.json", "--limit", "1", "--precision", "w8a8", "--check")
    assert main([*how]) == 0
    assert "on 1 window that it was calibrated on (DSP simulator" in capfd.readouterr().out


def test_options_that_do_not_go_together(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--precision", "auto", "--mixed"]) == 2
    assert "auto tries --mixed itself" in capfd.readouterr().err
    assert not (here / "bundle").exists()


def test_computed_here_is_what_the_graph_gives() -> None:
    from bundler.model.graph import fit_for_htp, runner
    from bundler.model.quantize import QuantizedModel
    from tests.models import LENGTH, random_feed

    fit = fit_for_htp(qa_model(), LENGTH)
    feed = {name: random_feed()[name] for name in (spec.name for spec in fit.inputs)}
    (found,) = QuantizedModel(fit.model).logits([feed])
    exact = runner(fit.model).run(list(found), feed)
    for one, other in zip(found.values(), exact, strict=True):
        np.testing.assert_array_equal(one, other)
