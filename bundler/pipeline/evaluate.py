"""Evaluates finished runs: the answers' quality, the logits' distance from float32's, and the speed."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bundler import __version__
from bundler.bundle import Bundle
from bundler.device.chunks import chunks_of
from bundler.device.outputs import Logits, load
from bundler.engines import EngineName
from bundler.evaluation.entrants import Entrant, choose_entrants
from bundler.evaluation.gates import Gates, checked
from bundler.evaluation.latency import latency_groups, latency_of, memory_of, time_reader
from bundler.evaluation.layers import layers_of
from bundler.evaluation.table import Table
from bundler.model.sdk import Sdk, open_sdk
from bundler.runs.answers import decode_answers
from bundler.runs.comparison import Comparison, known
from bundler.runs.reference import CHUNK, real_tokens, reference_logits, reference_name
from bundler.types import Progress, Runtime, silent

SCHEMA = 1

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest:
    """Selects all finished runs of the bundles, filtered by runtimes, phones and engine, and sets the limits for them.
    The SDK at `sdk` reads SNPE's logs of times; `layers`: compare every operator's result too."""

    bundles: Sequence[Path]
    runtimes: Sequence[str] = ()
    devices: Sequence[str] = ()
    engine: EngineName | None = None
    gates: Gates = field(default_factory=Gates)
    sdk: Path | None = None
    layers: bool = False


@dataclass(frozen=True)
class Evaluation:
    """The document (docs/json.md), and messages about runs that were not compared and why."""

    document: Json
    passed_over: tuple[str, ...]


def evaluate_bundles(request: EvaluateRequest, progress: Progress = silent) -> Evaluation:
    """Compares the runs with the float32 reference and with the known answers; writes each run's predictions.json into
    its folder.

    Raises:
        NoRun, RunsDiffer, BundleInvalid, DlcInvalid: refused; OutputsInvalid: a run's outputs cannot be read;
        HostStorageFailed
    """
    sdk = open_sdk(request.sdk) if request.sdk else None
    progress("checking the bundles", 0, None)
    chosen = choose_entrants(request.bundles, request.runtimes, request.devices, request.engine)
    entrants, bundle = chosen.entrants, chosen.entrants[0].bundle
    reference = reference_logits(bundle, progress)
    progress("decoding the answers", 0, None)
    table = Table(len(entrants), bundle.manifest.may_be_unanswerable)
    answers = [decode_answers(e.bundle, e.folder, e.run.settings.chunk) for e in entrants]
    for question, exact, *others in zip(
        bundle.questions, decode_answers(bundle, reference, CHUNK), *answers, strict=True
    ):
        table.add(question, exact, others)
    exact_scores, *scores = table.scores()
    for entrant, predictions in zip(entrants, table.predictions[1:], strict=True):
        predictions.write(entrant.folder, with_odds=bundle.manifest.may_be_unanswerable)
    runs = []
    for place, entrant in enumerate(entrants):
        progress("comparing the logits", place, len(entrants))
        runs.append(_run(entrant, reference, scores[place], table.agreement(place), sdk))
    manifest = bundle.manifest
    if request.layers:
        progress("comparing layer by layer", 0, None)
        _add_layers(entrants, runs)
    document = {
        "schema": SCHEMA,
        "made_by": f"mbqa-bundle {__version__}",
        "model": manifest.model.name,
        "questions_count": len(table.rows),
        "windows": len(manifest.windows),
        "may_be_unanswerable": manifest.may_be_unanswerable,
        "contexts": list(table.contexts),
        "reference": {"name": reference_name(bundle), "scores": exact_scores},
        "runs": runs,
        "questions": table.rows,
        "gates": [asdict(gate) for gate in checked(request.gates, runs)],
    }
    return Evaluation(document, chosen.passed_over)


def _run(entrant: Entrant, reference: Path, scores: Json | None, agreement: Json, sdk: Sdk | None) -> Json:
    bundle, run = entrant.bundle, entrant.run
    return {
        "name": entrant.name,
        "bundle": bundle.id,
        "precision": bundle.manifest.model.precision,
        "runtime": run.settings.runtime,
        "engine": run.settings.by.name,
        "run_id": run.settings.id,
        "phones": [
            {"name": part.phone, "soc": part.soc, "model": part.model, "windows": part.windows} for part in run.parts
        ],
        "verified": asdict(run.verified) if run.verified else None,
        "scores": scores,
        "agreement": agreement,
        "logits": _logits(entrant, reference),
        "latency": latency_of([entrant.folder], run.settings.runtime, time_reader(sdk, run.settings.by)),
        "latency_groups": latency_groups(entrant.folder, run.settings.runtime, run.parts),
        "memory_mb": memory_of(entrant.folder, run.settings.runtime),
        "layers": None,
        "trials": [asdict(trial) for trial in bundle.manifest.model.trials],
    }


def _add_layers(entrants: Sequence[Entrant], runs: Sequence[Json]) -> None:
    """Adds the comparison of layers. It is computed here, from the DLC, once for each bundle and runtime."""
    known: dict[tuple[str, Runtime], list[Json] | None] = {}
    for entrant, run in zip(entrants, runs, strict=True):
        key = entrant.bundle.id, entrant.run.settings.runtime
        if key not in known:
            known[key] = layers_of(entrant.bundle, entrant.run.settings.runtime)
        run["layers"] = known[key]


def _logits(entrant: Entrant, reference: Path) -> Json:
    """Compares the run's logits with the reference's."""
    bundle, comparison = entrant.bundle, Comparison()
    exact = _lines(bundle, reference, CHUNK)
    computed = _lines(bundle, entrant.folder, entrant.run.settings.chunk)
    for window, one, other in zip(bundle.manifest.windows, exact, computed, strict=True):
        real = real_tokens(bundle, [window])
        for name in one:
            comparison.add(one[name], other[name], real)
    return {name: known(value, 7) for name, value in asdict(comparison.likeness()).items()}


def _lines(bundle: Bundle, folder: Path, size: int) -> Iterator[Logits]:
    """Yields the outputs in a run's folder line by line, float32 (1, length) each."""
    for chunk in chunks_of(len(bundle.manifest.windows), size):
        logits = load(folder, chunk, bundle.manifest.outputs)
        for line in range(len(chunk)):
            yield {name: values[line] for name, values in logits.items()}
