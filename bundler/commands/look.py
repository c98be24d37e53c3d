"""Implements the commands to start with: doctor, demo, try."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bundler import soc
from bundler.commands.options import (
    AdbHost,
    AdbPort,
    Devices,
    Json,
    SocOption,
    adb_server,
    agrees,
    app,
    chip_named,
    shown,
)
from bundler.console import Console
from bundler.errors import UsageError

if TYPE_CHECKING:
    from bundler.commands.examination import Finding


@app.command()
def doctor(adb_host: AdbHost = None, adb_port: AdbPort = None, as_json: Json = False) -> None:
    """Check this computer and the attached phones, and tell how to get what is missing."""
    from dataclasses import asdict

    from bundler.commands.examination import examine, sdk_release
    from bundler.commands.phone_examination import examine_phones, phone_rows

    console, server = Console(as_json=as_json), adb_server(adb_host, adb_port)
    findings, phones = [*examine(server), *_confinement()], examine_phones(server, sdk_release())
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


def _confinement() -> "list[Finding]":
    """Checks whether the kernel confines processes on a virtual phone."""
    from bundler.commands.examination import Finding
    from bundler.platforms import this_platform
    from bundler.virtual import landlock

    what = "Landlock (confines virtual phones)"
    if not this_platform().runs_virtual_phones:
        return []
    if abi := landlock.version():
        return [Finding(what, True, f"ABI {abi}", needed=False)]
    remedy = "Use Linux 5.13 or later with Landlock on. Without it, what runs on a virtual phone can reach your files."
    return [Finding(what, False, "this kernel has none", remedy, needed=False)]


@app.command()
def demo(chip: SocOption = soc.DEFAULT, as_json: Json = False) -> None:
    """Build, deploy to a virtual phone, and show the answers of its DSP and its CPU side by side."""
    from dataclasses import asdict

    from bundler.commands.demo_run import take_tour

    console = Console(as_json=as_json)
    with console.progress() as progress:
        tour = take_tour(chip_named(chip), progress)
    rows = [(row.question.text, shown(row.dsp), shown(row.cpu), "yes" if row.right else "no") for row in tour]
    console.table(("question", "answer (DSP, 8 bits)", "answer (CPU)", "right"), rows)
    right = sum(row.right for row in tour)
    console.say(f"{right} of {len(tour)} right on both, on a virtual {chip}; the DSP is Qualcomm's simulator.")
    console.document([{**asdict(row), "right": row.right} for row in tour])


@app.command("try")
def try_command(
    device: Devices = None,
    sdk: Annotated[Path | None, typer.Option(help="Qualcomm's SDK. Default: as in build.")] = None,
    report: Annotated[Path, typer.Option(help="The report to write, for an issue on our tracker.")] = Path(
        "report.zip"
    ),
    yes: Annotated[bool, typer.Option("--yes", help="Write the report without asking.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for each run.", min=1)] = 300.0,
    adb_host: AdbHost = None,
    adb_port: AdbPort = None,
    as_json: Json = False,
) -> None:
    """Try the demo on a phone with every engine and runtime, and report what works; the phone is left unchanged."""
    from bundler.commands.examination import examine
    from bundler.commands.field_report import COLUMNS, contents, document, remarks, rows, write_report
    from bundler.commands.field_trial import try_phone
    from bundler.commands.phone_examination import PhoneFinding, phone_rows
    from bundler.commands.redaction import Redaction
    from bundler.sdk.cache import default_sdk

    if report.is_dir():
        raise UsageError(f"--report {report}: is a folder", "Name a file, such as report.zip.")
    console, server = Console(as_json=as_json), adb_server(adb_host, adb_port)
    findings = examine(server)
    for finding in findings:
        if not finding.ok and not finding.what.startswith("package"):
            console.say(f"{finding.what}: {finding.found}. {finding.remedy}")
    with console.progress() as progress:
        trial = try_phone(server, device or (), sdk or default_sdk(), timeout, progress)
    console.table(("phone", trial.phone), phone_rows([PhoneFinding(trial.phone, "ready", trial.facts)]))
    console.say("")
    console.table(COLUMNS, rows(trial))
    for line in remarks(trial):
        console.say(line)
    told = document(trial, findings)
    redaction = Redaction.of_here(trial.serials, {str(trial.sdk.root): "SDK"} if trial.sdk else {})
    files = contents(trial, told, redaction)
    console.table(("the report's files", "bytes"), [(name, f"{len(content):,}") for name, content in files.items()])
    if written := yes or _agrees(console, report):
        write_report(report, files)
        console.say(f"written to {report}: look into it, and send it as docs/field-reports.md tells")
    console.document({**told, "report": str(report) if written else None})
    if not trial.all_well:
        raise typer.Exit(6)


def _agrees(console: Console, report: Path) -> bool:
    """Returns whether the user wants the report written."""
    if not sys.stdin.isatty():
        console.say(f"no report was written: there is no terminal to ask on, and --yes writes {report} without asking")
        return False
    console.say("Names of people and computers, serials, paths and addresses are replaced in it; nothing is sent.")
    return agrees(f"Write {report}?")
