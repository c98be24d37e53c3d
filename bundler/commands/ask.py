"""Implements ask: questions to a bundle that is already on a phone."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bundler.commands.options import (
    AdbHost,
    AdbPort,
    BundleName,
    BundlePath,
    Devices,
    EngineOption,
    Json,
    PerfProfile,
    adb_server,
    app,
    bundle_named,
)
from bundler.console import Console, show_error
from bundler.errors import InputError, QuestionsInvalid, UsageError
from bundler.types import Runtime

if TYPE_CHECKING:
    from bundler.pipeline.ask import Reply
    from bundler.qa.texts import Text

SHOWN = 3  # names of files
SPACE = re.compile(r"\s+")


@app.command()
def ask(
    question: Annotated[
        str | None, typer.Argument(help="The question. Default: those that are typed, or the lines of standard input.")
    ] = None,
    name: BundleName = None,
    context: Annotated[str | None, typer.Option(help="The text to look for the answer in.")] = None,
    context_file: Annotated[Path | None, typer.Option(help="A file with the text.")] = None,
    context_folder: Annotated[
        Path | None, typer.Option(help="A folder with texts: the best answers of all are shown.")
    ] = None,
    device: Devices = None,
    runtime: Annotated[Runtime, typer.Option(help="The runtime that computes the model.")] = "cpu",
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Ask Qualcomm's simulator on this computer, without a phone.")
    ] = False,
    engine: EngineOption = "auto",
    perf_profile: Annotated[PerfProfile, typer.Option(help="The engine's performance profile.")] = "burst",
    bundle: BundlePath = None,
    timeout: Annotated[float, typer.Option(help="Seconds for each question.", min=1)] = 600.0,
    adb_host: AdbHost = None,
    adb_port: AdbPort = None,
    as_json: Json = False,
) -> None:
    """Ask the model on the phone about a text; this builds nothing and leaves the bundle unchanged."""
    from contextlib import ExitStack
    from dataclasses import asdict

    from bundler import __version__
    from bundler.pipeline.ask import AskRequest, asking
    from bundler.qa.questions import check_text
    from bundler.qa.texts import check_texts

    console, path = Console(as_json=as_json), bundle_named(name, bundle)
    if question is not None:
        check_text("command line", "the question", question)
    if simulate and device:
        raise UsageError("--simulate does not use a phone", "Leave --device out.")
    texts = _texts(context, context_file, context_folder, console)
    check_texts(texts)
    request = AskRequest(
        runtime=runtime,
        devices=device or (),
        engine=engine,
        perf_profile=perf_profile,
        timeout_s=timeout,
        simulate=simulate,
    )
    replies = []
    with ExitStack() as stack:
        with console.progress() as progress:
            session = stack.enter_context(asking(path, adb_server(adb_host, adb_port), request, progress))
        if session.where.brought_bytes:
            console.say(f"{session.where.brought_bytes / 1e6:.1f} MB of the bundle were not on the phone, and are now")
        if question is None and console.is_dialogue:
            console.say(f"{session.bundle.manifest.model.name} on {session.where.name}; Ctrl-D ends")
        for asked in console.lines("? ") if question is None else [question]:
            try:
                with console.progress() as progress:
                    reply = session.ask(asked, texts, progress)
            except InputError as error:
                if question is not None or not console.is_dialogue:
                    raise
                show_error(error)
                continue
            _show(reply, console)
            replies.append(asdict(reply))
    if not replies and not console.is_dialogue:
        raise QuestionsInvalid("standard input", "holds no question", "Give a question, or one a line.")
    model, where = session.bundle.manifest.model, session.where
    console.document(
        {
            "schema": 1,
            "made_by": f"mbqa-bundle {__version__}",
            "bundle": session.bundle.id,
            "model": model.name,
            "precision": model.precision,
            "runtime": runtime,
            "engine": where.engine,
            "phone": {"name": where.name, "soc": where.soc, "model": where.model},
            "pushed_bytes": where.brought_bytes,
            "answers": replies,
        }
    )


def _texts(context: str | None, file: Path | None, folder: Path | None, console: Console) -> "list[Text]":
    """Returns the texts that may contain the answer.

    Raises:
        UsageError: none or several are given; FileUnreadable, QuestionsInvalid
    """
    from bundler.qa.questions import check_text
    from bundler.qa.texts import Text, text_of, texts_in

    if [context, file, folder].count(None) != 2:
        raise UsageError("ask needs one text", "Give one of --context, --context-file and --context-folder.")
    if folder is not None:
        texts, others = texts_in(folder)
        if others:
            some = ", ".join(others[:SHOWN]) + (", ..." if len(others) > SHOWN else "")
            console.warn(f"{folder}: {len(others)} passed over, empty or no UTF-8: {some}")
        return texts
    if file is not None:
        return [text_of(file)]
    check_text("command line", "--context", context or "")
    return [Text("", context or "")]


def _show(reply: "Reply", console: Console) -> None:
    answer = reply.answer
    if answer.text:
        begin, end = answer.start - answer.sentence_start, answer.end - answer.sentence_start
        before, what, after = answer.sentence[:begin], answer.sentence[begin:end], answer.sentence[end:]
        console.say(answer.text)
        console.marked(*(SPACE.sub(" ", part) for part in (before, what, after)))
    else:
        console.say("(no answer)")
    if len(reply.best) > 1:
        rows = [(best.name, SPACE.sub(" ", best.text), f"{best.confidence:.3f}") for best in reply.best]
        console.table(("file", "answer", "confidence"), rows)
    network = "" if reply.network_ms is None else f"{reply.network_ms:.0f} ms in the network, "
    where = f"{answer.name}, " if answer.name else ""
    times = f"{network}{reply.phone_ms:.0f} ms on the phone, {reply.total_ms:.0f} ms in all"
    console.say(f"{where}confidence {answer.confidence:.3f}; {times}")
