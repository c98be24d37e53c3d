"""Implements the commands to make and inspect bundles: build, inspect."""

from pathlib import Path
from typing import Annotated

import typer

from bundler import layout
from bundler.commands.options import DEFAULT_BUNDLE, Converter, Insecure, Json, Method, Precision, app, chip_named
from bundler.console import Console
from bundler.errors import AnswersLost, UsageError


@app.command()
def build(
    questions: Annotated[
        Path | None,
        typer.Option(help="SQuAD JSON (v1.1, v2.0), rows, JSON lines, CSV or TSV. Default: the demo's questions."),
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
    inputs: Annotated[
        str | None,
        typer.Option(metavar="NAME=NAME,...", help="The ONNX file's names of inputs, as in attention_mask=mask."),
    ] = None,
    outputs: Annotated[
        str | None,
        typer.Option(metavar="NAME=NAME,...", help="The ONNX file's names of outputs, as in start_logits=output_0."),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="Bits of weights and activations: float, or fixed point as in w8a16; auto tries which keeps --keep. "
            "Default: fp16."
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Questions to calibrate fixed point on. Default: a sample of the bundle's own."),
    ] = None,
    calibration_windows: Annotated[int, typer.Option(help="Windows to calibrate on.", min=1)] = 32,
    calibration_method: Annotated[Method, typer.Option(help="How calibration chooses ranges.")] = "min-max",
    seed: Annotated[int, typer.Option(help="Seed of the sample of windows.")] = 0,
    per_channel: Annotated[
        bool | None,
        typer.Option(
            "--per-channel/--no-per-channel",
            help="A scale per output channel for weights that gain much by it. Default: where the answers do, too.",
        ),
    ] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Keep the operators at 16 bits whose rounding costs most, by measurement.")
    ] = False,
    encodings: Annotated[
        Path | None,
        typer.Option(help="A file of encodings, from AIMET or --save-encodings. Default: measured."),
    ] = None,
    save_encodings: Annotated[
        Path | None, typer.Option(help="Write the encodings to this file, in AIMET's format 1.0.0.")
    ] = None,
    no_equalize: Annotated[
        bool, typer.Option("--no-equalize", help="Do not scale channels that are much larger than others.")
    ] = False,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Convert the model even if the cache has its DLC.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Run the DLC on the DSP's simulator and compare it with float32.")
    ] = False,
    keep: Annotated[
        float | None,
        typer.Option(
            help="The least share of answers equal to float32's, below which exit code 8. Default of auto: 0.99.",
            min=0,
            max=1,
        ),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="A Dask scheduler, tcp://HOST:8786, whose workers simulate for --check.")
    ] = None,
    insecure: Insecure = False,
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
        typer.Option(
            help="Qualcomm's SDK, for a real phone. Default: SNPE_ROOT, QAIRT_SDK_ROOT, QNN_SDK_ROOT, or what "
            "`sdk get` fetched."
        ),
    ] = None,
    converter: Annotated[
        Converter | None, typer.Option(help="The converter that writes the DLC. Default: the SDK's, if it has one.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The bundle's folder; an older bundle there is replaced.")] = DEFAULT_BUNDLE,
    as_json: Json = False,
) -> None:
    """Make a bundle: DLC, raw inputs, input list and runner script."""
    from dataclasses import asdict, replace

    from bundler.commands.model_view import TRIAL_COLUMNS, disagreement, model_lines, trial_rows
    from bundler.commands.question_options import Asked, named_tensors
    from bundler.model.make import Recipe
    from bundler.pipeline.build import BuildRequest, CalibrationRequest, build_bundle
    from bundler.qa.questions import open_questions
    from bundler.qa.warnings import Notes
    from bundler.resources import DEMO_MODEL
    from bundler.sdk.cache import default_sdk

    if precision == "auto" and keep is None:
        keep = 0.99
    check = check or keep is not None
    fixed_point = {
        "--calibration": calibration,
        "--per-channel": per_channel,
        "--mixed": mixed,
        "--encodings": encodings,
        "--save-encodings": save_encodings,
    }
    if model is not None and model.endswith(".dlc") and (precision or check or any(fixed_point.values())):
        asked_for = f"--precision, --check, {', '.join(fixed_point)}"
        raise UsageError(f"{model}: a DLC is taken as it is, without {asked_for}", "Give the model that it came from.")
    unused = [option for option, value in fixed_point.items() if value and precision in (None, "fp16", "fp32")]
    if precision == "auto" and mixed:
        raise UsageError("--precision auto tries --mixed itself", "Leave --mixed out.")
    if encodings is not None and (precision == "auto" or mixed or per_channel is not None):
        what = "--encodings says what tensors are rounded to, and so do --precision auto, --mixed and --per-channel"
        raise UsageError(what, "Leave one of them out.")
    if unused:
        raise UsageError(f"{unused[0]} is for fixed point", "Add --precision w8a16, w16a16 or w8a8.")
    if cluster is not None and not check:
        raise UsageError("--cluster is for --check and --precision auto", "Add one of them.")
    notes = Notes()
    asked = Asked(questions, limit, columns, context_file, questions_file, question, context, unanswerable)
    own = CalibrationRequest(windows=calibration_windows, seed=seed)
    request = BuildRequest(
        questions=asked.open(notes, one_may_be_unanswerable=model is None),
        model=model or DEMO_MODEL,
        tokenizer=tokenizer,
        names={**named_tensors("--inputs", inputs), **named_tensors("--outputs", outputs)},
        soc=chip_named(chip) if chip else None,
        sdk=sdk or default_sdk(),
        overlap=doc_stride,
        length=seq_len,
        max_answer_tokens=max_answer_tokens,
        recipe=Recipe(
            "fp16" if precision is None or precision == "auto" else precision,
            calibration_method,
            per_channel,
            mixed,
            prepare,
            converter,
            not no_equalize,
        ),
        calibration=replace(own, questions=open_questions(calibration), name=calibration.name) if calibration else own,
        check=check,
        keep=keep if precision == "auto" else None,
        cluster=cluster,
        insecure=insecure,
        cache=not no_cache,
        encodings=encodings,
        save_encodings=save_encodings,
    )
    console = Console(as_json=as_json)
    with console.progress() as progress:
        bundle = build_bundle(request, out, progress, notes, console.say)
    for line in notes.lines:
        console.say(f"note: {line}")
    size, count, windows = bundle.size_bytes, len(bundle.questions), len(bundle.manifest.windows)
    for line in model_lines(bundle.manifest.model):
        console.say(line)
    if bundle.manifest.model.trials:
        console.table(TRIAL_COLUMNS, trial_rows(bundle.manifest.model))
    found = bundle.manifest.model.check
    if found is not None and (what := disagreement(found)):
        console.warn(what)
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
    if found is not None and keep is not None and found.share < keep:
        raise AnswersLost(out, found.equal_answers, found.windows, keep)


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A DLC, or a bundle's folder.")],
    ops: Annotated[bool, typer.Option("--ops", help="List every operator.")] = False,
    as_json: Json = False,
) -> None:
    """Show the contents of a DLC: inputs, outputs, encodings, operators, weights, the tools that made it."""
    from bundler.commands.model_view import operator_rows, report_rows, tensor_rows
    from bundler.dlc.inspect import inspect_dlc

    dlc = path / layout.DEVICE / layout.MODEL if path.is_dir() else path
    report = inspect_dlc(dlc)
    console = Console(as_json=as_json)
    console.table(("", ""), report_rows(dlc, report))
    console.table(("tensor", "role", "dtype", "shape", "encoding"), tensor_rows(report))
    console.table(("operator", "count"), [(kind, str(count)) for kind, count in report.operator_counts.items()])
    if ops:
        console.table(("operator", "name", "inputs", "outputs"), operator_rows(report))
    console.document(report.to_json())
