"""Implements the commands for quality and speed: evaluate, bench."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bundler import layout
from bundler.commands.options import (
    DEFAULT_BUNDLE,
    AdbHost,
    AdbPort,
    BundleName,
    BundlePath,
    Devices,
    EngineOption,
    Json,
    PerfProfile,
    Timeout,
    adb_server,
    app,
    bundle_named,
)  # fmt: skip
from bundler.console import Console
from bundler.engines import EngineName
from bundler.types import Runtime

SdkOfTimes = Annotated[
    Path | None, typer.Option("--sdk", help="Qualcomm's SDK, which reads SNPE's logs of times. Default: as in build.")
]


@app.command()
def evaluate(
    bundles: Annotated[
        list[Path] | None, typer.Argument(help="Bundles of the same questions and model. Default: bundle.")
    ] = None,
    runtime: Annotated[Runtime | None, typer.Option(help="Runs on this runtime only.")] = None,
    device: Annotated[list[str] | None, typer.Option(help="Runs on this phone only; repeatable.")] = None,
    engine: Annotated[EngineName | None, typer.Option(help="Runs by this engine only.")] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare each operator's result with float32's, computed here.")
    ] = False,
    min_f1: Annotated[float | None, typer.Option(help="The least F1, in percent.", min=0, max=100)] = None,
    min_agreement: Annotated[
        float | None, typer.Option(help="The least share of answers equal to float32's, 0 to 1.", min=0, max=1)
    ] = None,
    max_p90_ms: Annotated[
        float | None, typer.Option(help="The highest 90th percentile of latency, in milliseconds.", min=0)
    ] = None,
    sdk: SdkOfTimes = None,
    out: Annotated[
        Path | None, typer.Option(help="The JSON document. Default: runs/evaluation.json in the first bundle.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="The HTML report. Default: report.html beside it.")] = None,
    as_json: Json = False,
) -> None:
    """Compare finished runs' answers with the known ones and with float32's; exit code 8 if a limit is not met."""
    from bundler.evaluation.gates import Gates, raise_failed
    from bundler.evaluation.rows import COLUMNS, rows, unscored
    from bundler.pipeline.evaluate import EvaluateRequest, evaluate_bundles
    from bundler.report import write_report
    from bundler.sdk.cache import default_sdk

    console = Console(as_json=as_json)
    paths = bundles or [DEFAULT_BUNDLE]
    gates = Gates(min_f1, min_agreement, max_p90_ms)
    with console.progress() as progress:
        tools = sdk or default_sdk()
        request = EvaluateRequest(
            bundles=paths,
            runtimes=[runtime] if runtime else [],
            devices=device or (),
            engine=engine,
            gates=gates,
            sdk=tools,
            layers=layers,
        )
        evaluation = evaluate_bundles(request, progress)
    path = out or paths[0] / layout.RUNS / layout.EVALUATION
    _write(path, evaluation.document)
    page = report or path.with_name(layout.REPORT)
    write_report(evaluation.document, page)
    for line in evaluation.passed_over:
        console.say(f"passed over: {line}")
    console.table(COLUMNS, rows(evaluation.document))
    for line in unscored(evaluation.document):
        console.say(line)
    console.say(f"written to {path}; the page to read is {page}")
    console.document(evaluation.document)
    raise_failed(evaluation.document["gates"])


@app.command()
def bench(
    name: BundleName = None,
    device: Devices = None,
    runtime: Annotated[Runtime, typer.Option(help="The runtime that computes the model.")] = "cpu",
    engine: EngineOption = "auto",
    warm_up: Annotated[int, typer.Option(help="Runs before the measured ones.", min=0)] = 1,
    repeats: Annotated[int, typer.Option(help="Measured runs.", min=1)] = 5,
    cool_down: Annotated[float, typer.Option(help="Seconds of rest between two runs.", min=0)] = 10.0,
    windows: Annotated[int | None, typer.Option(help="Windows of each run. Default: up to 100.", min=1)] = None,
    perf_profile: Annotated[PerfProfile, typer.Option(help="The engine's performance profile.")] = "burst",
    sdk: SdkOfTimes = None,
    bundle: BundlePath = None,
    out: Annotated[Path | None, typer.Option(help="The JSON document. Default: in the bundle's runs/.")] = None,
    timeout: Timeout = 3600.0,
    adb_host: AdbHost = None,
    adb_port: AdbPort = None,
    as_json: Json = False,
) -> None:
    """Measure latency on a phone: warm-up, repeats with pauses, temperatures before and after each."""
    from bundler.pipeline.bench import COLUMNS, BenchRequest, rows
    from bundler.pipeline.bench import bench as measure
    from bundler.sdk.cache import default_sdk

    console, tools, where = Console(as_json=as_json), sdk or default_sdk(), bundle_named(name, bundle)
    request = BenchRequest(
        runtime=runtime,
        devices=device or (),
        engine=engine,
        warm_up=warm_up,
        repeats=repeats,
        cool_down_s=cool_down,
        windows=windows,
        perf_profile=perf_profile,
        sdk=tools,
        timeout_s=timeout,
    )
    with console.progress() as progress:
        document = measure(where, adb_server(adb_host, adb_port), request, progress)
    path = out or layout.bench_file(where, runtime, document["phone"]["name"])
    _write(path, document)
    console.say(f"by {document['engine']}-net-run")
    console.table(COLUMNS, rows(document))
    console.say(f"written to {path}")
    console.document(document)


def _write(path: Path, document: dict[str, Any]) -> None:
    """Writes a JSON document. Raises: HostStorageFailed"""
    import json

    from bundler.files import writing

    text = json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    with writing(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="\n")
