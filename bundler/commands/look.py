"""Commands to start with: doctor, demo."""

from typing import TYPE_CHECKING

import typer

from bundler import soc
from bundler.commands.options import AdbHost, AdbPort, Json, SocOption, adb_server, app, chip_named, shown
from bundler.console import Console

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
    """Whether the kernel confines what runs on a virtual phone."""
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
    from bundler.commands.demo_run import take_tour

    console = Console(as_json=as_json)
    with console.progress() as progress:
        tour = take_tour(chip_named(chip), progress)
    rows = [(row.question.text, shown(row.dsp), shown(row.cpu), "yes" if row.right else "no") for row in tour.rows]
    console.table(("question", "answer (DSP, float16)", "answer (CPU, float32)", "right"), rows)
    right = sum(row.right for row in tour.rows)
    console.say(f"{right} of {len(tour.rows)} right on both, on a virtual {chip}; the DSP is Qualcomm's simulator.")
    console.document(tour.to_json())
