"""Implements simulate: runs a bundle without a phone."""

from typing import Annotated

import typer

from bundler.commands.options import BundleName, BundlePath, Insecure, Json, app, bundle_named, chip_named  # fmt: skip
from bundler.console import Console
from bundler.errors import UsageError
from bundler.types import Runtime


@app.command()
def simulate(
    name: BundleName = None,
    runtime: Annotated[Runtime, typer.Option(help="The runtime to compute as.")] = "dsp",
    soc: Annotated[str | None, typer.Option(help="The chip whose DSP is simulated. Default: the bundle's.")] = None,
    limit: Annotated[int | None, typer.Option(help="Take only the first N questions.", min=1)] = None,
    sample: Annotated[int | None, typer.Option(help="Take this many questions at random (see --seed).", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sample.", min=0)] = 0,
    workers: Annotated[
        int | None, typer.Option(help="Processes on this computer. Default: one for each core.", min=1)
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="A Dask scheduler whose workers compute, such as tls://HOST:8786.")
    ] = None,
    insecure: Insecure = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start over instead of continuing an interrupted run.")
    ] = False,
    bundle: BundlePath = None,
    as_json: Json = False,
) -> None:
    """Run the bundle on Qualcomm's simulator, without a phone; fetch-answers and evaluate accept its runs."""
    from dataclasses import asdict

    from bundler.bundle import Sample
    from bundler.commands.model_view import run_lines
    from bundler.pipeline.simulate import SimulateRequest, simulate_bundle

    console, path = Console(as_json=as_json), bundle_named(name, bundle)
    if limit is not None and sample is not None:
        raise UsageError("--limit and --sample both say which questions", "Give one of them.")
    if cluster is not None and workers is not None:
        raise UsageError("--workers is for this computer", "A cluster has its own number of workers: leave it out.")
    count = sample or limit
    request = SimulateRequest(
        runtime=runtime,
        soc=chip_named(soc) if soc else None,
        sample=None if count is None else Sample(count, seed if sample else None),
        workers=workers,
        cluster=cluster,
        insecure=insecure,
        restart=restart,
    )
    with console.progress() as progress:
        run = simulate_bundle(path, request, progress, console.say, console.seen())
    for line in run_lines(run):
        console.say(line)
    console.document(asdict(run))
