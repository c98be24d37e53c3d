"""Implements the commands to run bundles on phones: deploy, fetch-answers, stop, clean."""

from itertools import islice
from typing import Annotated, Literal

import typer

from bundler.commands.options import (
    AdbHost,
    AdbPort,
    BundleName,
    BundlePath,
    Devices,
    EngineOption,
    Insecure,
    Json,
    OnInterrupt,
    OnOff,
    PerfProfile,
    RuntimeOption,
    Timeout,
    adb_server,
    app,
    bundle_named,
    chip_named,
    shown,
)  # fmt: skip
from bundler.console import Console
from bundler.errors import NotVerified, UsageError
from bundler.types import Runtime

MOST_SHOWN = 100  # answers


@app.command()
def deploy(
    name: BundleName = None,
    device: Devices = None,
    everywhere: Annotated[bool, typer.Option("--all", help="Run on every phone that is attached.")] = False,
    runtime: Annotated[Runtime, typer.Option(help="The runtime that computes the model.")] = "cpu",
    engine: EngineOption = "auto",
    fallback: Annotated[
        Literal["cpu"] | None, typer.Option(help="The runtime to take where the phone cannot do --runtime.")
    ] = None,
    perf_profile: Annotated[PerfProfile, typer.Option(help="The engine's performance profile.")] = "burst",
    unsigned_pd: Annotated[
        OnOff | None,
        typer.Option(help="Ask for (or refuse) an unsigned process domain on the DSP. Default: the engine's."),
    ] = None,
    chunk: Annotated[
        int | None, typer.Option(help="Windows that a phone computes at a time. Default: 500, or less.", min=1)
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait; fetch-answers does.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start over instead of continuing an unfinished run.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Compare the logits and answers of some windows with float32's; exit code 8 where they differ.",
        ),
    ] = False,
    verify_threshold: Annotated[
        float | None,
        typer.Option(
            help="The lowest cosine for --verify; answers do not count. Default: 0.999, or 0.99 for fixed point.",
            min=-1,
            max=1,
        ),
    ] = None,
    on_interrupt: OnInterrupt = "leave",
    cluster: Annotated[
        str | None, typer.Option(help="A Dask scheduler whose hosts' phones run it, such as tls://HOST:8786.")
    ] = None,
    soc: Annotated[str | None, typer.Option(help="With --cluster: only phones with this chip.")] = None,
    hexagon: Annotated[
        int | None, typer.Option(help="With --cluster: only phones with this Hexagon version, such as 75.", min=1)
    ] = None,
    phones: Annotated[
        int | None, typer.Option(help="With --cluster: at most this many phones. Default: all that can.", min=1)
    ] = None,
    insecure: Insecure = False,
    bundle: BundlePath = None,
    timeout: Timeout = 3600.0,
    adb_host: AdbHost = None,
    adb_port: AdbPort = None,
    as_json: Json = False,
) -> None:
    """Push the bundle to one or several phones, and run it there."""
    from dataclasses import asdict

    from bundler.commands.model_view import run_lines
    from bundler.pipeline.deploy import DeployRequest, deploy_bundle

    console, path = Console(as_json=as_json), bundle_named(name, bundle)
    if cluster is not None and (device or everywhere):
        raise UsageError("--device and --all are for phones here", "Choose a cluster's by --soc, --hexagon, --phones.")
    if cluster is None and (soc or hexagon or phones):
        raise UsageError("--soc, --hexagon and --phones choose a cluster's phones", "Name it: --cluster ADDRESS.")
    options = f"unsignedPD:{unsigned_pd.upper()}" if unsigned_pd else ""
    request = DeployRequest(
        runtime=runtime,
        devices=device or (),
        engine=engine,
        everywhere=everywhere,
        fallback=fallback,
        perf_profile=perf_profile,
        platform_options=options,
        chunk=chunk,
        restart=restart,
        detach=detach,
        timeout_s=timeout,
        when_interrupted=on_interrupt,
        verify=verify or verify_threshold is not None,
        verify_threshold=verify_threshold,
        cluster=cluster,
        insecure=insecure,
        soc=chip_named(soc) if soc else None,
        hexagon=hexagon,
        phones=phones,
    )
    with console.progress() as progress:
        server, seen = adb_server(adb_host, adb_port), console.seen()
        run = deploy_bundle(path, server, request, progress, seen, console.warn, console.say)
    for line in run_lines(run):
        console.say(line)
    console.document(asdict(run))
    if run.verified is not None and not run.verified.passed:
        found = run.verified
        raise NotVerified(path, found.smallest_cosine, found.threshold, found.windows, found.equal_answers)


@app.command("fetch-answers")
def fetch_answers_command(
    name: BundleName = None,
    device: Devices = None,
    runtime: RuntimeOption = None,
    on_interrupt: OnInterrupt = "leave",
    null_threshold: Annotated[
        float, typer.Option(help='How far above the best span\'s score "no answer" must be to win.')
    ] = 0.0,
    n_best: Annotated[int, typer.Option(help="Candidate spans for each answer.", min=1)] = 20,
    max_answer_tokens: Annotated[
        int | None, typer.Option(help="Tokens of an answer, at most. Default: as the bundle was built.", min=1)
    ] = None,
    whole_words: Annotated[
        bool | None,
        typer.Option(
            "--whole-words/--part-words",
            help="Whether answers end at whole words. Default: they do where the tokenizer divides texts into words.",
        ),
    ] = None,
    bundle: BundlePath = None,
    timeout: Timeout = 3600.0,
    adb_host: AdbHost = None,
    adb_port: AdbPort = None,
    as_json: Json = False,
) -> None:
    """Decode the newest run's answers and write answers.json; wait for a run that is not finished."""
    from bundler.pipeline.fetch import FetchRequest, fetch_answers
    from bundler.qa.spans import Decoding

    console = Console(as_json=as_json)
    decoding = Decoding(n_best, null_threshold, max_answer_tokens, whole_words)
    request = FetchRequest(
        devices=device or (), runtime=runtime, timeout_s=timeout, when_interrupted=on_interrupt, decoding=decoding
    )
    with console.progress() as progress:
        server, seen = adb_server(adb_host, adb_port), console.seen()
        fetched = fetch_answers(bundle_named(name, bundle), server, request, progress, seen)
    rows = [(q.text, shown(a), f"{a.confidence:.3f}") for q, a in islice(fetched.answered(), MOST_SHOWN)]
    console.table(("question", "answer", "confidence"), rows)
    more = len(fetched.bundle.questions) - len(rows)
    console.say(f"{f'and {more:,} more; all ' if more else ''}written to {fetched.path}")
    for doubt in fetched.doubts:
        console.warn(f"not plausible: {doubt}")
    console.document_file(fetched.path)


@app.command()
def stop(
    name: BundleName = None,
    device: Devices = None,
    bundle: BundlePath = None,
    adb_host: AdbHost = None,
    adb_port: AdbPort = None,
    as_json: Json = False,
) -> None:
    """End the bundle's run on its phones; the same deploy command resumes it."""
    from bundler.pipeline.stop import stop_runs

    console = Console(as_json=as_json)
    stopped = stop_runs(bundle_named(name, bundle), device or (), adb_server(adb_host, adb_port))
    for phone, runtime in stopped:
        console.say(f"phone {phone}: stopped the run on the {runtime}")
    if not stopped:
        console.say("no run of this bundle is going on")
    console.document([{"phone": phone, "runtime": runtime} for phone, runtime in stopped])


@app.command()
def clean(
    device: Devices = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Remove everything that this tool put on the phone, bundles too.")
    ] = False,
    adb_host: AdbHost = None,
    adb_port: AdbPort = None,
    as_json: Json = False,
) -> None:
    """Remove files from a phone that no bundle there needs."""
    from bundler.device.limits import Limit
    from bundler.device.store import Store
    from bundler.device.targets import choose_targets

    console = Console(as_json=as_json)
    freed = {}
    with console.progress() as progress:
        for target in choose_targets(device or (), adb_server(adb_host, adb_port)):
            freed[target.name] = Store(target.find(Limit()), progress).clean(everything=everything)
    for name, size in freed.items():
        console.say(f"phone {name}: {size / 1e6:.1f} MB freed")
    console.document([{"phone": name, "freed_bytes": size} for name, size in freed.items()])
