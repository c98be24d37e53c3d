"""Reads the reports of `try` in tests/field/ with the current code.

A copied report is a test of the parsing of the phone's answers, the judgement of the phone, the explanation of its
failures, and the distance of its logits from float32's.
"""

import io
import json
import re
import zipfile
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bundler.bundle.parsing import typed
from bundler.commands.field_report import DOCUMENT, PROBE, TABLE
from bundler.device.explain import explain
from bundler.device.known_limits import Use, limits_of
from bundler.device.probe import PhoneFacts, read_facts
from bundler.engines import ENGINES
from bundler.runs.comparison import Comparison
from bundler.runs.verify import default_threshold
from bundler.scheduler.compatibility import choose_engine, why_not
from bundler.types import OUTPUTS
from tests.test_schemas import check

FIELD = Path(__file__).parent / "field"
REPORTS = sorted(FIELD.glob("*.zip"))
LARGEST = 2_000_000  # bytes: they are kept for ever


class Report:
    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            self.files = {name: archive.read(name) for name in archive.namelist()}
        self.document: dict[str, Any] = json.loads(self.files[DOCUMENT])
        self.facts = typed(PhoneFacts, self.document["phone"]["facts"])
        self.runs: list[dict[str, Any]] = [step for step in self.document["steps"] if step["engine"]]

    @cached_property
    def probe(self) -> str:
        return self.files[PROBE].decode()

    def bundle(self, converter: str) -> Any:
        """Returns the parts of the bundle that fitness depends on."""
        told = self.document["bundles"][converter]
        model = SimpleNamespace(precision=told["precision"], engine=told["engine"])
        files = dict.fromkeys(told["files"])
        return SimpleNamespace(path=Path("bundle"), device_files=files, manifest=SimpleNamespace(model=model))

    def arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        with np.load(io.BytesIO(self.files[f"logits/{name}.npz"]), allow_pickle=False) as arrays:
            return dict(arrays)


@pytest.fixture(params=REPORTS, ids=[path.stem for path in REPORTS])
def report(request: pytest.FixtureRequest) -> Report:
    return Report(request.param)


def test_there_are_some() -> None:
    assert {"virtual", "genuine"} <= {path.stem.partition("-")[0] for path in REPORTS}
    assert all(path.stat().st_size < LARGEST for path in REPORTS)


def test_it_is_what_a_report_is(report: Report) -> None:
    check(report.document, "trial")
    assert "report" not in report.document
    assert TABLE in report.files
    assert report.document["phone"]["name"] == "SERIAL-1"


def test_the_phones_answers_mean_the_same(report: Report) -> None:
    clock = re.search(r"^clock=(\d+)$", report.probe, flags=re.MULTILINE)
    ours = int(clock[1]) - (report.facts.clock_skew_s or 0) if clock else 0
    assert read_facts(report.probe, ours) == report.facts


def test_the_phone_is_judged_by_what_it_did(report: Report) -> None:
    """A run that worked is not refused, and a refused one is."""
    for step in report.runs:
        bundle, engine = report.bundle(step["converter"]), ENGINES[step["engine"]]
        assert choose_engine("SERIAL-1", report.facts, bundle, engine.name) == engine.name
        refusal = why_not("SERIAL-1", report.facts, bundle, step["runtime"], engine)
        assert (refusal is not None) == (step["outcome"] == "not on this chip"), step["name"]


def test_known_limits_hold(report: Report) -> None:
    for step in report.runs:
        bundle = report.bundle(step["converter"])
        brought = ENGINES[step["engine"]].path in bundle.device_files
        sdk = (report.document["sdk"] if brought else None) or ""
        use = Use(step["runtime"], step["engine"], bundle.manifest.model.precision, prepared=False, sdk=sdk)
        assert set(step["limits"]) <= {limit.name for limit in limits_of(report.facts, use)}, step["name"]
        assert step["outcome"] != "known limit" or step["limits"]


def test_failures_are_explained(report: Report) -> None:
    for step in report.runs:
        trouble = step["trouble"]
        if trouble is None or trouble["exit_status"] is None:
            continue
        log = report.files[f"logs/{step['name']}.txt"].decode(errors="replace")
        known = explain(log.splitlines(), trouble["exit_status"])
        assert (known.name if known else "") == trouble["explanation"], step["name"]


def test_logits_are_as_near_to_float32s(report: Report) -> None:
    for step in report.runs:
        if step["verified"] is None:
            continue
        exact, computed = report.arrays(f"{step['converter']}-float32"), report.arrays(step["name"])
        comparison = Comparison()
        for name in OUTPUTS:
            comparison.add(exact[name][:, 0], computed[name][exact["lines"], 0], exact["real"])
        smallest = comparison.likeness().smallest_cosine
        assert smallest == pytest.approx(step["verified"]["smallest_cosine"], abs=1e-6)
        least = default_threshold(report.document["bundles"][step["converter"]]["precision"])
        assert step["outcome"] != "worked" or smallest >= least
