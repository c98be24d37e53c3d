"""The record that deploy leaves of a run and fetch starts from."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bundler import layout
from bundler.bundle import Bundle, writing
from bundler.errors import InputError
from bundler.types import Runtime


@dataclass(frozen=True)
class Run:
    """A run that ended well. `started` and `seconds` are of the host's clock."""

    bundle_id: str
    serial: str
    runtime: Runtime
    soc: str
    phone_model: str
    remote: str
    started: str
    seconds: float

    @property
    def remote_folder(self) -> PurePosixPath:
        return PurePosixPath(self.remote)

    def folder(self, bundle: Path) -> Path:
        return layout.run_folder(bundle, self.runtime, self.serial)

    def save(self, bundle: Path) -> None:
        with writing(self.folder(bundle) / layout.RUN) as draft:
            draft.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def runs_of(bundle: Bundle) -> list[Run]:
    """The runs of exactly this bundle, the newest last; records of other builds are passed over."""
    runs = []
    for record in sorted((bundle.path / layout.RUNS).glob(f"*/{layout.RUN}")):
        try:
            fields: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
            run = Run(**fields)
        except (ValueError, TypeError, OSError) as error:
            raise InputError(f"{record}: is no record of a run: {error}", "Remove it, and deploy again.") from error
        if run.bundle_id == bundle.id:
            runs.append(run)
    return sorted(runs, key=lambda run: run.started)


def newest_run(bundle: Bundle, runtime: Runtime | None = None, serial: str | None = None) -> Run:
    """The newest run, of this runtime and phone where they are given.

    Raises:
        InputError: there is none.
    """
    runs = [r for r in runs_of(bundle) if runtime in (None, r.runtime) and serial in (None, r.serial)]
    if not runs:
        which = "".join([f" on the {runtime}" if runtime else "", f" on phone {serial}" if serial else ""])
        raise InputError(f"{bundle.path}: this bundle has no finished run{which}", "Run `mbqa-bundle deploy` first.")
    return runs[-1]
