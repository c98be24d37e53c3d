"""Tries a phone for the first time: runs the demo by every engine on every runtime, and records the results."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bundler import layout
from bundler.bundle import Bundle
from bundler.bundle.arrays import write_arrays
from bundler.commands.field_steps import Outcome, Step, trouble_of, unlike
from bundler.device.job import PhoneJob
from bundler.device.known_limits import Use, limits_of
from bundler.device.limits import Limit
from bundler.device.outputs import kept_chunks, load
from bundler.device.phone import AdbServer
from bundler.device.probe import PhoneFacts, probe, probe_told
from bundler.device.store import Store
from bundler.device.targets import Target, choose_target
from bundler.engines import ENGINES, EngineName
from bundler.errors import BundlerError, Interrupted, NoNetRun, OutputsInvalid, RunFailed, RuntimeUnsupported
from bundler.model.make import Converter, Precision, Recipe
from bundler.model.sdk import CONVERTERS, Sdk, open_sdk
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.pipeline.deploy import DeployRequest, deploy_bundle
from bundler.pipeline.fetch import FetchRequest, fetch_answers
from bundler.platforms import this_platform
from bundler.qa.questions import read_squad
from bundler.resources import DEMO_MODEL, DEMO_QUESTIONS, DEMO_TOKENIZER
from bundler.runs.reference import real_tokens, verify_logits
from bundler.types import RUNTIMES, Progress, QuestionSet, Runtime

QUESTIONS = 6  # of the demo's: the DSP's simulator takes seconds for each
CLEAN_S = 60.0


@dataclass
class Trial:
    """The results. `serials` are those of all phones that adb knows; `told` is the phone's output of probe.sh;
    `evidence`: texts and arrays by their file names; `left`: why something may be left on the phone, or empty.
    """

    phone: str
    serials: tuple[str, ...]
    facts: PhoneFacts
    told: str
    sdk: Sdk | None
    bundles: dict[Converter, Bundle] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    evidence: dict[str, bytes] = field(default_factory=dict)
    left: str = ""

    @property
    def all_well(self) -> bool:
        outcomes = {step.outcome for step in self.steps}
        return "worked" in outcomes and "failed" not in outcomes


def try_phone(
    server: AdbServer, devices: Sequence[str], sdk_root: Path | None, step_s: float, progress: Progress
) -> Trial:
    """Builds the demo by each available converter, runs it on the phone with every engine and runtime, compares it with
    float32, and continues after failures. Selects the only phone if `devices` is empty, and leaves it unchanged. No run
    takes longer than `step_s`.

    Raises:
        PhoneError: no phone can be probed; NotAnSdk; UsageError: several phones; KeyboardInterrupt
    """
    sdk = open_sdk(sdk_root) if sdk_root else None
    target = choose_target(devices, server, "try looks at one phone at a time")
    phone = target.find(Limit(CLEAN_S))
    there = Store(phone, progress).names()
    facts, told = probe_told(phone)
    serials = (target.name, phone.serial, *(each.serial for each in phone.server.attached()))
    trial = Trial(target.name, serials, facts, told, sdk)
    with tempfile.TemporaryDirectory(prefix="mbqa-try-") as folder:
        trying = _Trying(trial, target, step_s, Path(folder), progress)
        try:
            for converter in _converters(sdk):
                trying.by(converter)
        finally:
            trying.clean_up(there)
    return trial


def _converters(sdk: Sdk | None) -> list[Converter]:
    """Returns the wheel's converter, and the SDK's if it has one that runs here."""
    vendors = sdk is not None and this_platform().runs_sdk_tools and any(map(sdk.tool, CONVERTERS))
    return ["built-in", "sdk"] if vendors else ["built-in"]


class _Trying:
    """A trial in progress."""

    def __init__(self, trial: Trial, target: Target, step_s: float, folder: Path, progress: Progress) -> None:
        self._trial, self._target, self._step_s = trial, target, step_s
        self._folder, self._progress = folder, progress
        self._celsius = trial.facts.hottest_celsius

    def by(self, converter: Converter) -> None:
        """Builds the bundle with this converter, and does all its runs."""
        begun = time.monotonic()
        out = self._folder / f"{converter}-bundle"
        try:
            bundle = build_bundle(self._demo(converter), out, self._progress)
        except BundlerError as error:
            self._trial.steps.append(Step(converter, None, None, "failed", _since(begun), trouble=trouble_of(error)))
            return
        finally:
            self._keep(f"logs/{converter}-build.txt", layout.convert_log(out))
        self._trial.bundles[converter] = bundle
        self._keep_scripts(bundle, converter)
        facts, files = self._trial.facts, bundle.device_files
        engines = [engine for engine in ENGINES.values() if engine.path in files or facts.has(engine.name)]
        missing = None if engines else trouble_of(NoNetRun(self._target.serial))
        outcome: Outcome = "worked" if engines else "failed"
        self._trial.steps.append(Step(converter, None, None, outcome, _since(begun), trouble=missing))
        for engine in engines:
            for runtime in RUNTIMES:
                self._trial.steps.append(self._run(bundle, converter, engine.name, runtime))

    def clean_up(self, there: Sequence[str]) -> None:
        """Restores the phone's earlier state."""
        self._progress("cleaning up", 0, None)
        try:
            phone = self._target.find(Limit(CLEAN_S))
            store = Store(phone, self._progress)
            for bundle in self._trial.bundles.values():
                for runtime in RUNTIMES:
                    PhoneJob(phone, bundle.id, runtime).stop()
                store.unlink(bundle.id)
            store.restore(there)
        except BundlerError as error:
            self._trial.left = str(error)

    def _demo(self, converter: Converter) -> BuildRequest:
        """Returns the request for the demo; unique question ids distinguish its bundle from the user's."""
        demo, facts = read_squad(DEMO_QUESTIONS, QUESTIONS), self._trial.facts
        questions = tuple(replace(question, id=f"try-{question.id}") for question in demo)
        return BuildRequest(
            questions=QuestionSet(questions, demo.may_be_unanswerable),
            model=DEMO_MODEL,
            tokenizer=DEMO_TOKENIZER,
            soc=facts.soc,
            sdk=self._trial.sdk.root if self._trial.sdk else None,
            recipe=Recipe(precision_for(facts), converter=converter),
        )

    def _run(self, bundle: Bundle, converter: Converter, engine: EngineName, runtime: Runtime) -> Step:
        begun, before, limit_s = time.monotonic(), self._celsius, self._step_s
        server, devices = self._target.server, [self._target.name]
        step = Step(converter, engine, runtime, "failed", 0.0, limits=self._limits(bundle, engine, runtime))
        blamed: Outcome = "known limit" if step.limits else "failed"
        request = DeployRequest(
            runtime=runtime, devices=devices, engine=engine, restart=True, timeout_s=limit_s, verify=True,
            when_interrupted="stop",
        )  # fmt: skip
        try:
            run = deploy_bundle(bundle.path, server, request, self._progress)
            wanted = FetchRequest(devices=devices, runtime=runtime, timeout_s=limit_s)
            fetched = fetch_answers(bundle.path, server, wanted, self._progress)
            answers = {question.id: answer.text for question, answer in fetched.answered()}
            assert run.verified is not None
            trouble = unlike(run.verified, fetched.doubts)
            seconds = sum(part.seconds for part in run.parts)
            step = replace(step, phone_seconds=seconds, verified=run.verified, answers=answers, trouble=trouble)
            step = replace(step, outcome=blamed if trouble else "worked")
            self._keep_logits(bundle, run.folder(bundle.path), step.name)
        except Interrupted:
            raise KeyboardInterrupt from None  # nothing is left that could be resumed
        except RuntimeUnsupported as error:
            step = replace(step, outcome="not on this chip", trouble=trouble_of(error))
        except (RunFailed, OutputsInvalid) as error:
            step = replace(step, outcome=blamed, trouble=trouble_of(error))
        except BundlerError as error:
            step = replace(step, trouble=trouble_of(error))
        seconds, self._celsius = _since(begun), self._look(bundle, step)
        return replace(step, seconds=seconds, celsius=(before, self._celsius))

    def _limits(self, bundle: Bundle, engine: EngineName, runtime: Runtime) -> tuple[str, ...]:
        brought = self._trial.sdk if ENGINES[engine].path in bundle.device_files else None
        version = (brought.version if brought else None) or ""
        use = Use(runtime, engine, bundle.manifest.model.precision, prepared=False, sdk=version)
        return tuple(limit.name for limit in limits_of(self._trial.facts, use))

    def _look(self, bundle: Bundle, step: Step) -> float | None:
        """Keeps the run's log, and ends what is left of it after a failure; returns the phone's temperature."""
        assert step.runtime is not None
        written = layout.run_folder(bundle.path, step.runtime, [self._target.name]) / layout.log_of(self._target.name)
        self._keep(f"logs/{step.name}.txt", written)
        try:
            phone = self._target.find(Limit(CLEAN_S))
            job = PhoneJob(phone, bundle.id, step.runtime)
            if step.outcome != "not on this chip":
                self._trial.evidence[f"logs/{step.name}.txt"] = job.log()
            if step.outcome != "worked":
                job.stop()
            return probe(phone).hottest_celsius
        except BundlerError:
            return None

    def _keep(self, name: str, path: Path) -> None:
        with suppress(FileNotFoundError):
            self._trial.evidence[name] = path.read_bytes()

    def _keep_scripts(self, bundle: Bundle, converter: Converter) -> None:
        names = (layout.INPUT_LIST, *(engine.runner for engine in ENGINES.values()))
        for name in names:
            self._keep(f"scripts/{converter}-{name}", bundle.path / layout.DEVICE / name)
        lines, exact = verify_logits(bundle)
        real = real_tokens(bundle, [bundle.manifest.windows[line] for line in lines.tolist()])
        self._keep_arrays(f"{converter}-float32", {"lines": lines, "real": real, **exact})

    def _keep_logits(self, bundle: Bundle, folder: Path, name: str) -> None:
        parts = [load(folder, chunk, bundle.manifest.outputs) for chunk in sorted(kept_chunks(folder))]
        self._keep_arrays(name, {key: np.concatenate([part[key] for part in parts]) for key in parts[0]})

    def _keep_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        path = self._folder / "arrays.npz"
        write_arrays(path, arrays)
        self._keep(f"logits/{name}.npz", path)


def precision_for(facts: PhoneFacts) -> Precision:
    """Returns float16, unless the phone's DSP does not support it."""
    soc = facts.soc
    return "w8a16" if soc and soc.has_htp and not soc.takes("fp16") else "fp16"


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 3)
