"""The record of a run in its folder: deploy writes it at the run's begin and end, fetch reads it."""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from bundler import layout
from bundler.bundle import Bundle, Sample
from bundler.bundle.parsing import typed
from bundler.device.job import Settings
from bundler.errors import HostStorageFailed, InputError
from bundler.files import writing

MOST_WINDOWS = 1 << 40  # a record may state any number


@dataclass(frozen=True)
class Part:
    """One phone's share of a run: `windows` by the runtime that computed them, in `chunks` chunks; `seconds` of the
    phone's own clock; `pushed_bytes` by the command that ended the run; `trouble`: why it did no more, if it was lost
    or failed; `host`: the machine of a cluster that it is on."""

    phone: str
    soc: str
    model: str
    windows: dict[str, int] = field(default_factory=dict)
    chunks: int = 0
    seconds: float = 0.0
    pushed_bytes: int = 0
    trouble: str = ""
    host: str = ""


@dataclass(frozen=True)
class Verified:
    """The verdict of `deploy --verify`: the smallest cosine between the phone's and float32's logits over `windows`
    windows, its threshold, and how many windows have float32's answer (None: not measured by an older release)."""

    smallest_cosine: float
    threshold: float
    windows: int
    passed: bool
    equal_answers: int | None = None

    @property
    def share(self) -> tuple[float, float]:
        """Returns the 95 % confidence interval of the share of windows with float32's answer (Wilson's interval).

        It is 0 to 1 if the answers were not compared.
        """
        count, z = min(self.windows, MOST_WINDOWS), 1.96
        if self.equal_answers is None or count < 1:
            return 0.0, 1.0
        part = min(max(self.equal_answers, 0), count) / count
        middle = part + z * z / (2 * count)
        half = z * math.sqrt(part * (1 - part) / count + z * z / (4 * count * count))
        return max(0.0, (middle - half) / (1 + z * z / count)), min(1.0, (middle + half) / (1 + z * z / count))


@dataclass(frozen=True)
class Run:
    """A run of a bundle on phones, each named as for `--device`. `started` and `seconds` are of the host's clock; the
    next deploy or fetch continues a run that is not `finished`; `verified` is None without `--verify`. A `simulated`
    run was computed on this computer, and `phones` names the simulator. For a run on a `cluster`, only `parts` names
    the phones. `sample`: the questions, if not all."""

    bundle_id: str
    settings: Settings
    phones: tuple[str, ...]
    started: str
    finished: bool = False
    seconds: float = 0.0
    parts: tuple[Part, ...] = ()
    verified: Verified | None = None
    simulated: bool = False
    sample: Sample | None = None
    cluster: bool = False

    def folder(self, bundle: Path) -> Path:
        return layout.run_folder(bundle, self.settings.runtime, self.phones)

    def ended(self, parts: Sequence[Part], seconds: float) -> "Run":
        """Returns the run as finished."""
        return replace(self, finished=True, parts=tuple(parts), seconds=round(seconds, 3))

    def save(self, bundle: Path) -> None:
        """Writes the run's record. Raises: HostStorageFailed"""
        with writing(self.folder(bundle) / layout.RUN) as draft:
            draft.write_text(json.dumps(asdict(self), indent=1, allow_nan=False) + "\n", encoding="utf-8", newline="\n")

    @classmethod
    def read(cls, record: Path) -> "Run":
        """Reads a run's record. Raises: InputError if the file is not a record of a run."""
        try:
            run = typed(cls, json.loads(record.read_text(encoding="utf-8")), "the run")
            if run.settings.chunk < 1 or not run.phones or not all(run.phones):
                raise ValueError("it has no chunks, or a phone without a name")
            if run.sample is not None and run.sample.count < 1:
                raise ValueError("its sample has no questions")
            return run
        except (ValueError, RecursionError, OSError) as error:
            raise InputError(f"{record}: is not a record of a run: {error}", "Remove it, and deploy again.") from error


def begin(
    bundle: Bundle, phones: Sequence[str], settings: Settings, *, simulated: bool = False, cluster: bool = False
) -> Run:
    """Starts a new run and saves its record. Removes files of an older run on these phones.

    Raises:
        HostStorageFailed
    """
    started = datetime.now(UTC).isoformat()
    sample = bundle.sample
    run = Run(bundle.id, settings, tuple(phones), started, simulated=simulated, sample=sample, cluster=cluster)
    folder = run.folder(bundle.path)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        (folder / layout.LOGITS).mkdir(parents=True)
    except OSError as error:
        raise HostStorageFailed(folder, error.strerror or str(error)) from error
    run.save(bundle.path)
    return run


def runs_of(bundle: Bundle) -> list[Run]:
    """Returns the runs of exactly this bundle, the newest last; skips records of other builds."""
    runs = [Run.read(record) for record in sorted((bundle.path / layout.RUNS).glob(f"*/{layout.RUN}"))]
    return sorted((run for run in runs if run.bundle_id == bundle.id), key=lambda run: run.started)


def newest_run(bundle: Bundle, runtime: str | None = None, phones: Sequence[str] = ()) -> Run | None:
    """Returns the newest run, of this runtime and these phones if given; None if there is none."""
    wanted = [
        run
        for run in runs_of(bundle)
        if runtime in (None, run.settings.runtime) and (not phones or set(phones) == set(run.phones))
    ]
    return wanted[-1] if wanted else None
