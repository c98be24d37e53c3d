"""Shows the results of a trial: as tables, as a JSON document, and as the report that a person may send."""

import json
import platform
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bundler import __version__
from bundler.commands.examination import Finding
from bundler.commands.field_steps import Step
from bundler.commands.field_trial import Trial
from bundler.commands.redaction import Redaction
from bundler.device.known_limits import known_limits
from bundler.files import writing

SCHEMA = 1
COLUMNS = ("step", "outcome", "seconds", "on the phone", "°C", "cosine", "answers")
DOCUMENT, TABLE, PROBE = "report.json", "table.txt", "probe.txt"


def document(trial: Trial, findings: Sequence[Finding]) -> dict[str, Any]:
    """Returns the JSON document, described in docs/json.md."""
    return {
        "schema": SCHEMA,
        "made_by": f"mbqa-bundle {__version__}",
        "python": platform.python_version(),
        "here": [asdict(finding) for finding in findings],
        "sdk": trial.sdk.version if trial.sdk else None,
        "phone": {"name": trial.phone, "facts": asdict(trial.facts)},
        "bundles": {
            converter: {
                "id": bundle.id,
                "precision": bundle.manifest.model.precision,
                "engine": bundle.manifest.model.engine,
                "made_by": bundle.manifest.model.converter,
                "files": sorted(bundle.device_files),
            }
            for converter, bundle in trial.bundles.items()
        },
        "steps": [{"name": step.name, **asdict(step)} for step in trial.steps],
        "left": trial.left,
    }


def rows(trial: Trial) -> list[tuple[str, ...]]:
    """Returns one row for each step; unknown values are dashes."""
    return [_row(step) for step in trial.steps]


def _row(step: Step) -> tuple[str, ...]:
    verified = step.verified
    return (
        step.name,
        step.outcome,
        f"{step.seconds:.1f}",
        "-" if step.phone_seconds is None else f"{step.phone_seconds:.1f}",
        " to ".join("-" if each is None else f"{each:.0f}" for each in step.celsius) if any(step.celsius) else "-",
        f"{verified.smallest_cosine:.6f}" if verified else "-",
        f"{verified.equal_answers} of {verified.windows}" if verified else "-",
    )


def remarks(trial: Trial) -> list[str]:
    """Returns the reason for each failed step, with the phone's message and the next thing to try; the phone's known
    limits; and whether anything is left on it."""
    said: list[str] = []
    for trouble in dict.fromkeys(step.trouble for step in trial.steps if step.trouble):
        names = [step.name for step in trial.steps if step.trouble == trouble]
        said.append(f"{', '.join(names)}: {trouble.message}")
        if trouble.line not in trouble.message:
            said.append(f"  the phone says: {trouble.line}")
        said += [f"  cause: {trouble.cause}"] if trouble.cause else []
        said.append(f"  next: {trouble.remedy}")
    named = {name for step in trial.steps for name in step.limits}
    said += [f"known: {limit.warning} {limit.remedy}" for limit in known_limits() if limit.name in named]
    runs = [step.outcome for step in trial.steps if step.engine]
    said.append(f"{runs.count('worked')} of {len(runs)} runs worked")
    left = (
        f"something of it may be left on the phone ({trial.left}): `mbqa-bundle clean --all` removes all bundles there"
    )
    said.append(left if trial.left else "the phone is left as it was")
    return said


def contents(trial: Trial, told: Mapping[str, Any], redaction: Redaction) -> dict[str, bytes]:
    """Returns the report's files by name; `told` is the document."""
    texts = {
        DOCUMENT: json.dumps(redaction.value(told), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        TABLE: "".join(f"{line}\n" for line in (*_aligned([COLUMNS, *rows(trial)]), "", *remarks(trial))),
        PROBE: trial.told,
        **{name: kept.decode(errors="replace") for name, kept in trial.evidence.items() if _is_text(name)},
    }
    arrays = {name: kept for name, kept in trial.evidence.items() if not _is_text(name)}
    return dict(sorted({**{name: redaction.text(text).encode() for name, text in texts.items()}, **arrays}.items()))


def _is_text(name: str) -> bool:
    return not name.endswith(".npz")


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def write_report(path: Path, files: Mapping[str, bytes]) -> None:
    """Writes the report, atomically.

    Raises:
        HostStorageFailed
    """
    with writing(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)  # without a date
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
