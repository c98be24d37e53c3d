"""The record of a run in its folder: deploy writes it when the run begins and when it ends, fetch starts from it."""

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

MOST_WINDOWS = 1 << 40  # a record may tell any number


@dataclass(frozen=True)
class Part:
    """What one phone did of a run: `windows` by the runtime that computed them, in so many `chunks`; `seconds` of the
    phone's own clock; `pushed_bytes` by the command that ended the run;
    `trouble` is why it did no more, where it was lost or failed; `host`: of a cluster, where it is."""

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
    """The verdict of `deploy --verify`: the smallest cosine of the phone's logits with float32's, over so many windows,
    what it had to reach, and how many of the windows have float32's answer (None: an older release did not look)."""

    smallest_cosine: float
    threshold: float
    windows: int
    passed: bool
    equal_answers: int | None = None

    @property
    def share(self) -> tuple[float, float]:
        """Between which shares of all windows have float32's answer, with 95 % confidence (Wilson's interval).

        0 to 1 where the answers were not compared.
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
    """A run of a bundle on phones, each named as `--device` takes it. `started` and `seconds` are of the host's clock;
    a run that is not `finished` goes on with the next deploy or fetch; `verified` is None without `--verify`. One that
    `simulated` was computed on this computer, `phones` names the simulator; of one on a `cluster` only `parts` tell the
    phones; `sample`: the questions, where not all."""

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
        """The run with all done."""
        return replace(self, finished=True, parts=tuple(parts), seconds=round(seconds, 3))

    def save(self, bundle: Path) -> None:
        """Raises: HostStorageFailed"""
        with writing(self.folder(bundle) / layout.RUN) as draft:
            draft.write_text(json.dumps(asdict(self), indent=1, allow_nan=False) + "\n", encoding="utf-8", newline="\n")

    @classmethod
    def read(cls, record: Path) -> "Run":
        """Raises: InputError where the file is no record of a run."""
        try:
            run = typed(cls, json.loads(record.read_text(encoding="utf-8")), "the run")
            if run.settings.chunk < 1 or not run.phones or not all(run.phones):
                raise ValueError("it has no chunks, or a phone without a name")
            if run.sample is not None and run.sample.count < 1:
                raise ValueError("its sample has no questions")
            return run
        except (ValueError, RecursionError, OSError) as error:
            raise InputError(f"{record}: is no record of a run: {error}", "Remove it, and deploy again.") from error


def begin(
    bundle: Bundle, phones: Sequence[str], settings: Settings, *, simulated: bool = False, cluster: bool = False
) -> Run:
    """A new run, its record saved. What an older run on these phones left here is removed.

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
    """The runs of exactly this bundle, the newest last; records of other builds are passed over."""
    runs = [Run.read(record) for record in sorted((bundle.path / layout.RUNS).glob(f"*/{layout.RUN}"))]
    return sorted((run for run in runs if run.bundle_id == bundle.id), key=lambda run: run.started)


def newest_run(bundle: Bundle, runtime: str | None = None, phones: Sequence[str] = ()) -> Run | None:
    """The newest run, of this runtime and these phones where they are given; None where there is none."""
    wanted = [
        run
        for run in runs_of(bundle)
        if runtime in (None, run.settings.runtime) and (not phones or set(phones) == set(run.phones))
    ]
    return wanted[-1] if wanted else None
