"""The commands. Each parses, calls and prints; what is heavy is imported where it is used."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bundler import __version__, layout, soc
from bundler.console import Console, show_error
from bundler.errors import BundlerError, HostStorageFailed, NotVerified, UsageError
from bundler.types import Runtime
from bundler.virtual import faults

if TYPE_CHECKING:
    from bundler.device.phone import AdbServer
    from bundler.types import Answer
    from bundler.virtual.phones import VirtualPhone

app = typer.Typer(
    name="mbqa-bundle",
    help="MobileBERT question answering on Snapdragon phones: build a bundle, run it there, fetch the answers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
phone_app = typer.Typer(help="Virtual phones, for adb of any make.", no_args_is_help=True)
app.add_typer(phone_app, name="phone")

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout; all else goes to stderr.")]
BundlePath = Annotated[Path, typer.Option("--bundle", help="The bundle's folder.")]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        help="Serial of a phone, once for each; HOST:PORT is connected to; HOST:PORT/SERIAL is at another adb server. "
        "Default: ANDROID_SERIAL, or the only phone.",
    ),
]
OnInterrupt = Annotated[
    Literal["leave", "stop"], typer.Option(help="What Ctrl-C does to the run on the phone; either can be gone on with.")
]
Timeout = Annotated[float, typer.Option(help="Seconds for everything together; the phone's run goes on.", min=1)]
AdbHost = Annotated[str | None, typer.Option("--adb-host", help="Host of the adb server.")]
AdbPort = Annotated[int | None, typer.Option("--adb-port", help="Port of the adb server.", min=1, max=65535)]
RuntimeOption = Annotated[Runtime | None, typer.Option("--runtime", help="The runtime of the run to fetch.")]
SocOption = Annotated[str, typer.Option("--soc", help="The chip, such as SM8650.")]

# spelled out here, so that `--help` need not import what works with them; a test compares
Precision = Literal["fp32", "fp16", "w8a16", "w16a16", "w8a8"]
Method = Literal["min-max", "entropy", "percentile"]
Converter = Literal["built-in", "sdk"]
PerfProfile = Literal[
    "default", "balanced", "low_balanced", "high_performance", "sustained_high_performance", "burst", "low_power_saver",
    "power_saver", "high_power_saver", "extreme_power_saver", "system_settings",
]  # fmt: skip
OnOff = Literal["on", "off"]

DEFAULT_BUNDLE = Path(layout.DEFAULT_BUNDLE)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"mbqa-bundle {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def build(
    questions: Annotated[
        Path | None,
        typer.Option(help="SQuAD JSON (v1.1, v2.0), JSON lines, CSV or TSV. Default: the demo's questions."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="FIELD=COLUMN,...", help="The table's columns, as in question=Frage,context=Text."),
    ] = None,
    questions_file: Annotated[
        Path | None, typer.Option(help="Plain text, one question a line, with --context-file.")
    ] = None,
    context_file: Annotated[
        Path | None, typer.Option(help="The plain text that all questions of --questions-file are about.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Take the first N questions only.", min=1)] = None,
    question: Annotated[str | None, typer.Option(help="One question, with --context.")] = None,
    context: Annotated[str | None, typer.Option(help="The text that holds the answer to --question.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="ONNX file, DLC, transformers folder, or a model on huggingface.co. Default: the demo's."),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="tokenizer.json or vocab.txt. Default: the model's own.")
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(help="Bits of weights and activations: float, or fixed point as in w8a16. Default: fp16."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Questions to calibrate fixed point on. Default: a sample of the bundle's own."),
    ] = None,
    calibration_windows: Annotated[int, typer.Option(help="Windows to calibrate on.", min=1)] = 32,
    calibration_method: Annotated[Method, typer.Option(help="How ranges follow from values.")] = "min-max",
    seed: Annotated[int, typer.Option(help="Draws the sample of windows.")] = 0,
    per_channel: Annotated[
        bool, typer.Option("--per-channel", help="A scale per output channel for weights that gain much by it.")
    ] = False,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Keep the operators at 16 bits whose rounding is measured to cost most.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Run the DLC on the DSP's simulator and compare it with float32.")
    ] = False,
    prepare: Annotated[bool, typer.Option("--prepare", help="Compile the DLC for the chip ahead of time.")] = False,
    unanswerable: Annotated[
        bool | None,
        typer.Option(
            "--may-be-unanswerable/--always-answer",
            help='Whether "no answer" may win. Default: as a file says (SQuAD v2.0: yes, v1.1: no); '
            "for --question, yes with the demo model only.",
        ),
    ] = None,
    seq_len: Annotated[int | None, typer.Option(help="Tokens of a window. Default: the model's own, or 384.")] = None,
    doc_stride: Annotated[int, typer.Option(help="Tokens by which windows of a long context overlap.", min=0)] = 128,
    max_answer_tokens: Annotated[int, typer.Option(help="Tokens of an answer, at most.", min=1)] = 30,
    chip: Annotated[
        str | None, typer.Option("--soc", help="The phone's chip, such as SM8650. Default: every one the SDK knows.")
    ] = None,
    sdk: Annotated[
        Path | None,
        typer.Option(help="Qualcomm's SDK, for a real phone. Default: SNPE_ROOT, QAIRT_SDK_ROOT or QNN_SDK_ROOT."),
    ] = None,
    converter: Annotated[
        Converter | None, typer.Option(help="What writes the DLC. Default: the SDK's converter, if it has one.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The bundle's folder; an older bundle there is replaced.")] = DEFAULT_BUNDLE,
    as_json: Json = False,
) -> None:
    """Make a bundle: DLC, raw inputs, input list and runner script."""
    from dataclasses import asdict, replace

    from bundler.asked import Asked
    from bundler.build import BuildRequest, CalibrationRequest, build_bundle
    from bundler.model.make import Recipe
    from bundler.model.sdk import sdk_from_environment
    from bundler.qa.notes import Notes
    from bundler.qa.questions import open_questions
    from bundler.resources import DEMO_MODEL
    from bundler.show import model_lines

    if model is not None and model.endswith(".dlc") and (precision or mixed or per_channel or check or calibration):
        asked_for = "--precision, --calibration, --per-channel, --mixed and --check"
        raise UsageError(f"{model}: a DLC is taken as it is, without {asked_for}", "Give the model that it came from.")
    fixed_point = {"--calibration": calibration, "--per-channel": per_channel, "--mixed": mixed}
    unused = [option for option, value in fixed_point.items() if value and precision in (None, "fp16", "fp32")]
    if unused:
        raise UsageError(f"{unused[0]} is for fixed point", "Add --precision w8a16, w16a16 or w8a8.")
    notes = Notes()
    asked = Asked(questions, limit, columns, context_file, questions_file, question, context, unanswerable)
    own = CalibrationRequest(windows=calibration_windows, seed=seed)
    request = BuildRequest(
        questions=asked.open(notes, one_may_be_unanswerable=model is None),
        model=model or DEMO_MODEL,
        tokenizer=tokenizer,
        soc=_soc(chip) if chip else None,
        sdk=sdk or sdk_from_environment(),
        overlap=doc_stride,
        length=seq_len,
        max_answer_tokens=max_answer_tokens,
        recipe=Recipe(precision or "fp16", calibration_method, per_channel, mixed, prepare, converter),
        calibration=replace(own, questions=open_questions(calibration), name=calibration.name) if calibration else own,
        check=check,
    )
    console = Console(as_json=as_json)
    with console.progress() as progress:
        bundle = build_bundle(request, out, progress, notes)
    for line in notes.lines:
        console.say(f"note: {line}")
    size, count, windows = bundle.size_bytes, len(bundle.questions), len(bundle.manifest.windows)
    for line in model_lines(bundle.manifest.model):
        console.say(line)
    console.say(f"{out}: bundle {bundle.id}, {count} questions in {windows} windows, {size / 1e6:.1f} MB")
    console.document(
        {
            "bundle": bundle.id,
            "path": str(out),
            "questions": count,
            "windows": windows,
            "bytes": size,
            "model": asdict(bundle.manifest.model),
            "notes": notes.lines,
        }
    )


@app.command()
def deploy(
    device: Devices = None,
    everywhere: Annotated[bool, typer.Option("--all", help="Run on every phone that is attached.")] = False,
    runtime: Annotated[Runtime, typer.Option(help="Where the model runs.")] = "cpu",
    fallback: Annotated[
        Literal["cpu"] | None, typer.Option(help="The runtime to take where the phone cannot do --runtime.")
    ] = None,
    perf_profile: Annotated[PerfProfile, typer.Option(help="snpe-net-run's --perf_profile.")] = "burst",
    unsigned_pd: Annotated[
        OnOff | None, typer.Option(help="Ask for (or refuse) an unsigned process domain on the DSP. Default: SNPE's.")
    ] = None,
    chunk: Annotated[
        int | None, typer.Option(help="Windows that a phone computes at a time. Default: 500, or less.", min=1)
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait; fetch-answers does.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, also where a run was not finished.")] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compare a few windows' logits with float32's; exit code 8 where they differ."),
    ] = False,
    verify_threshold: Annotated[
        float | None,
        typer.Option(help="The cosine that --verify asks for. Default: 0.999, for fixed point 0.99.", min=-1, max=1),
    ] = None,
    on_interrupt: OnInterrupt = "leave",
    bundle: BundlePath = DEFAULT_BUNDLE,
    timeout: Timeout = 3600.0,
    adb_host: AdbHost = None,
    adb_port: AdbPort = None,
    as_json: Json = False,
) -> None:
    """Push the bundle to a phone, or several, and run it there."""
    from dataclasses import asdict

    from bundler.deploy import DeployRequest, deploy_bundle
    from bundler.show import run_lines

    console = Console(as_json=as_json)
    options = f"unsignedPD:{unsigned_pd.upper()}" if unsigned_pd else ""
    request = DeployRequest(
        runtime,
        device or (),
        everywhere,
        fallback,
        perf_profile,
        options,
        chunk,
        restart,
        detach,
        timeout,
        on_interrupt,
        verify or verify_threshold is not None,
        verify_threshold,
    )
    with console.progress() as progress:
        run = deploy_bundle(bundle, _server(adb_host, adb_port), request, progress)
    for line in run_lines(run):
        console.say(line)
    console.document(asdict(run))
    if run.verified is not None and not run.verified.passed:
        raise NotVerified(bundle, run.verified.smallest_cosine, run.verified.threshold)


@app.command("fetch-answers")
def fetch_answers_command(
    device: Devices = None,
    runtime: RuntimeOption = None,
    on_interrupt: OnInterrupt = "leave",
    null_threshold: Annotated[
        float, typer.Option(help='How far above the best span\'s score "no answer" must be to win.')
    ] = 0.0,
    n_best: Annotated[int, typer.Option(help="Spans that compete for each answer and are told of.", min=1)] = 20,
    max_answer_tokens: Annotated[
        int | None, typer.Option(help="Tokens of an answer, at most. Default: as the bundle was built.", min=1)
    ] = None,
    bundle: BundlePath = DEFAULT_BUNDLE,
    timeout: Timeout = 3600.0,
    adb_host: AdbHost = None,
    adb_port: AdbPort = None,
    as_json: Json = False,
) -> None:
    """Decode the newest run's answers and write answers.json; a run that is not finished is waited for."""
    from bundler.fetch import FetchRequest, answers_document, fetch_answers
    from bundler.qa.spans import Decoding

    console = Console(as_json=as_json)
    decoding = Decoding(n_best, null_threshold, max_answer_tokens)
    request = FetchRequest(device or (), runtime, timeout, on_interrupt, decoding)
    with console.progress() as progress:
        fetched = fetch_answers(bundle, _server(adb_host, adb_port), request, progress)
    questions = [question.text for question in fetched.bundle.questions]
    rows = [(q, _shown(a), f"{a.confidence:.3f}") for q, a in zip(questions, fetched.answers, strict=True)]
    console.table(("question", "answer", "confidence"), rows)
    console.say(f"written to {fetched.path}")
    console.document(answers_document(fetched.bundle, fetched.run, fetched.answers))


@app.command()
def evaluate(
    bundles: Annotated[
        list[Path] | None, typer.Argument(help="Bundles of the same questions and model. Default: bundle.")
    ] = None,
    runtime: Annotated[Runtime | None, typer.Option(help="Runs on this runtime only.")] = None,
    device: Annotated[list[str] | None, typer.Option(help="Runs on this phone only; repeatable.")] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare each operator's result with float32's, computed here.")
    ] = False,
    min_f1: Annotated[float | None, typer.Option(help="The least F1, in percent.", min=0, max=100)] = None,
    min_agreement: Annotated[
        float | None, typer.Option(help="The least share of answers equal to float32's, 0 to 1.", min=0, max=1)
    ] = None,
    max_p90_ms: Annotated[
        float | None, typer.Option(help="Nine of ten inferences take no more milliseconds than this.", min=0)
    ] = None,
    sdk: Annotated[
        Path | None,
        typer.Option(help="Qualcomm's SDK, which reads SNPE's logs of times. Default: SNPE_ROOT and its like."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The JSON document. Default: runs/evaluation.json in the first bundle.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="The page to read. Default: report.html beside it.")] = None,
    as_json: Json = False,
) -> None:
    """Compare the answers of finished runs with the known ones and with float32's; a gate for CI by exit code 8."""
    import json

    from bundler.bundle import writing
    from bundler.evaluate import EvaluateRequest
    from bundler.evaluate import evaluate as evaluate_runs
    from bundler.evaluation.gates import Gates, raise_failed
    from bundler.evaluation.rows import COLUMNS, rows
    from bundler.model.sdk import sdk_from_environment
    from bundler.report import write_report

    console = Console(as_json=as_json)
    paths = bundles or [DEFAULT_BUNDLE]
    gates = Gates(min_f1, min_agreement, max_p90_ms)
    with console.progress() as progress:
        tools = sdk or sdk_from_environment()
        request = EvaluateRequest(paths, [runtime] if runtime else [], device or (), gates, tools, layers)
        evaluation = evaluate_runs(request, progress)
    path = out or paths[0] / layout.RUNS / layout.EVALUATION
    with writing(path) as draft:
        draft.write_text(json.dumps(evaluation.document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    page = report or path.with_name(layout.REPORT)
    write_report(evaluation.document, page)
    for line in evaluation.passed_over:
        console.say(f"passed over: {line}")
    console.table(COLUMNS, rows(evaluation.document))
    console.say(f"written to {path}; the page to read is {page}")
    console.document(evaluation.document)
    raise_failed(evaluation.document["gates"])


@app.command()
def bench(
    device: Devices = None,
    runtime: Annotated[Runtime, typer.Option(help="Where the model runs.")] = "cpu",
    warm_up: Annotated[int, typer.Option(help="Runs before those that count.", min=0)] = 1,
    repeats: Annotated[int, typer.Option(help="Runs that count.", min=1)] = 5,
    cool_down: Annotated[float, typer.Option(help="Seconds of rest between two runs.", min=0)] = 10.0,
    windows: Annotated[int | None, typer.Option(help="Windows of each run. Default: up to 100.", min=1)] = None,
    perf_profile: Annotated[PerfProfile, typer.Option(help="snpe-net-run's --perf_profile.")] = "burst",
    sdk: Annotated[
        Path | None,
        typer.Option(help="Qualcomm's SDK, which reads SNPE's logs of times. Default: SNPE_ROOT and its like."),
    ] = None,
    bundle: BundlePath = DEFAULT_BUNDLE,
    out: Annotated[Path | None, typer.Option(help="The JSON document. Default: in the bundle's runs/.")] = None,
    timeout: Timeout = 3600.0,
    adb_host: AdbHost = None,
    adb_port: AdbPort = None,
    as_json: Json = False,
) -> None:
    """Measure latency on a phone: warm-up, repeats with pauses, temperatures before and after each."""
    import json

    from bundler.bench import COLUMNS, BenchRequest, rows
    from bundler.bench import bench as measure
    from bundler.bundle import writing
    from bundler.model.sdk import sdk_from_environment

    console, tools = Console(as_json=as_json), sdk or sdk_from_environment()
    request = BenchRequest(runtime, device or (), warm_up, repeats, cool_down, windows, perf_profile, tools, timeout)
    with console.progress() as progress:
        document = measure(bundle, _server(adb_host, adb_port), request, progress)
    path = out or layout.bench_file(bundle, runtime, document["phone"]["name"])
    with writing(path) as draft:
        draft.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    console.table(COLUMNS, rows(document))
    console.say(f"written to {path}")
    console.document(document)


@app.command()
def stop(
    device: Devices = None,
    bundle: BundlePath = DEFAULT_BUNDLE,
    adb_host: AdbHost = None,
    adb_port: AdbPort = None,
    as_json: Json = False,
) -> None:
    """End the bundle's run on its phones; the same deploy goes on where it was stopped."""
    from bundler.stop import stop_runs

    console = Console(as_json=as_json)
    stopped = stop_runs(bundle, device or (), _server(adb_host, adb_port))
    for name, runtime in stopped:
        console.say(f"phone {name}: stopped the run on the {runtime}")
    if not stopped:
        console.say("no run of this bundle is going on")
    console.document([{"phone": name, "runtime": runtime} for name, runtime in stopped])


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
    """Remove from a phone what no bundle there needs."""
    from bundler.device.limits import Limit
    from bundler.device.store import Store
    from bundler.device.targets import choose_targets

    console = Console(as_json=as_json)
    freed = {}
    with console.progress() as progress:
        for target in choose_targets(device or (), _server(adb_host, adb_port)):
            freed[target.name] = Store(target.find(Limit()), progress).clean(everything=everything)
    for name, size in freed.items():
        console.say(f"phone {name}: {size / 1e6:.1f} MB freed")
    console.document([{"phone": name, "freed_bytes": size} for name, size in freed.items()])


@app.command()
def demo(chip: SocOption = soc.DEFAULT, as_json: Json = False) -> None:
    """Build, deploy to a virtual phone, and show the answers of its DSP and its CPU side by side."""
    from bundler.tour import take_tour

    console = Console(as_json=as_json)
    with console.progress() as progress:
        tour = take_tour(_soc(chip), progress)
    rows = [(row.question.text, _shown(row.dsp), _shown(row.cpu), "yes" if row.right else "no") for row in tour.rows]
    console.table(("question", "answer (DSP, float16)", "answer (CPU, float32)", "right"), rows)
    right = sum(row.right for row in tour.rows)
    console.say(f"{right} of {len(tour.rows)} right on both, on a virtual {chip}; the DSP is Qualcomm's simulator.")
    console.document(tour.to_json())


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A DLC, or a bundle's folder.")],
    ops: Annotated[bool, typer.Option("--ops", help="List every operator.")] = False,
    as_json: Json = False,
) -> None:
    """Show what is in a DLC: inputs, outputs, encodings, operators, weights, the tools that made it."""
    from bundler.dlc.inspect import inspect_dlc
    from bundler.show import operator_rows, report_rows, tensor_rows

    dlc = path / layout.DEVICE / layout.MODEL if path.is_dir() else path
    report = inspect_dlc(dlc)
    console = Console(as_json=as_json)
    console.table(("", ""), report_rows(dlc, report))
    console.table(("tensor", "role", "dtype", "shape", "encoding"), tensor_rows(report))
    console.table(("operator", "count"), [(kind, str(count)) for kind, count in report.operator_counts.items()])
    if ops:
        console.table(("operator", "name", "inputs", "outputs"), operator_rows(report))
    console.document(report.to_json())


@app.command()
def doctor(adb_host: AdbHost = None, adb_port: AdbPort = None, as_json: Json = False) -> None:
    """Say what is here and what is missing, with a remedy for each lack."""
    from dataclasses import asdict

    from bundler.doctor import examine
    from bundler.doctor_phones import examine_phones, phone_rows

    console, server = Console(as_json=as_json), _server(adb_host, adb_port)
    findings, phones = examine(server), examine_phones(server)
    rows = [("ok" if f.ok else "missing" if f.needed else "-", f.what, f.found, f.remedy) for f in findings]
    console.table(("", "what", "found", "remedy"), rows)
    if phones:
        console.table(("phone", *(phone.serial for phone in phones)), phone_rows(phones))
    else:
        console.say("no phone is attached: plug one in with USB debugging on, or `mbqa-bundle phone start`")
    here = [asdict(finding) for finding in findings]
    console.document({"here": here, "phones": [phone.to_json() for phone in phones]})
    if not all(finding.ok or not finding.needed for finding in findings):
        raise typer.Exit(4)


@phone_app.command("start", epilog=faults.as_text())
def phone_start(
    chip: SocOption = soc.DEFAULT,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 5555,
    fault: Annotated[
        list[str] | None, typer.Option(metavar="SPEC", help="Let it misbehave; repeatable. The faults are below.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start a virtual phone in the background."""
    import tempfile

    from bundler.virtual.phones import default_state_root, start_phone

    root = default_state_root()
    root.mkdir(parents=True, exist_ok=True)
    state = root / str(port) if port else Path(tempfile.mkdtemp(prefix="free-", dir=root))
    phone = start_phone(_soc(chip), port, state, faults=fault or ())
    console = Console(as_json=as_json)
    console.say(f"virtual {phone.soc} is up: mbqa-bundle deploy --device {phone.serial}")
    console.document(_phone_json(phone))


@phone_app.command("stop")
def phone_stop(
    port: Annotated[int | None, typer.Option(help="Port of the phone. Default: all phones.", min=1, max=65535)] = None,
    wipe: Annotated[bool, typer.Option("--wipe", help="Delete its storage too.")] = False,
    as_json: Json = False,
) -> None:
    """Stop virtual phones."""
    from bundler.errors import VirtualPhoneFailed
    from bundler.virtual.phones import default_state_root, list_phones, stop_phone

    phones = [phone for phone in list_phones(default_state_root()) if port in (None, phone.port)]
    if not phones:
        which = f"on port {port}" if port else "at all"
        raise VirtualPhoneFailed(f"none is running {which}", "See `mbqa-bundle phone list`.")
    console = Console(as_json=as_json)
    for phone in phones:
        stop_phone(phone, wipe=wipe)
        console.say(f"stopped {phone.serial}")
    console.document([_phone_json(phone) for phone in phones])


@phone_app.command("list")
def phone_list(as_json: Json = False) -> None:
    """List the running virtual phones."""
    from bundler.virtual.phones import default_state_root, list_phones

    console = Console(as_json=as_json)
    phones = list_phones(default_state_root())
    console.table(
        ("serial", "SoC", "pid", "state folder"), [(p.serial, p.soc, str(p.pid), str(p.state)) for p in phones]
    )
    console.document([_phone_json(phone) for phone in phones])


def _phone_json(phone: "VirtualPhone") -> dict[str, Any]:
    return {"serial": phone.serial, "port": phone.port, "soc": phone.soc, "pid": phone.pid, "state": str(phone.state)}


def _shown(answer: "Answer") -> str:
    return answer.text or "(no answer)"


def _server(host: str | None, port: int | None) -> "AdbServer":
    from bundler.device.phone import AdbServer

    return AdbServer.at(host, port)


def _soc(name: str) -> soc.Soc:
    found = soc.find_soc(name)
    if found is None:
        raise UsageError(f"--soc {name}: not a chip that this release knows", f"Known: {', '.join(soc.known_socs())}.")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; returns its exit code. The only place where errors become words."""
    if argv is None:  # a process of its own: what it started is to end with it
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app(args=None if argv is None else list(argv), prog_name="mbqa-bundle")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except BundlerError as error:
        show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        show_error(HostStorageFailed(error.filename or "this machine", error.strerror or str(error)))
        return HostStorageFailed.exit_code
    except Exception as error:
        if os.environ.get("MBQA_TRACEBACK"):
            raise
        show_error(BundlerError(f"internal error: {type(error).__name__}: {error} (MBQA_TRACEBACK=1 shows where)"))
        return BundlerError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
