"""Provides deploy and fetch-answers in the form that tests call."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundler.bundle import Bundle
from bundler.device.phone import Phone
from bundler.pipeline.deploy import DeployRequest, deploy_bundle
from bundler.pipeline.fetch import FetchRequest, fetch_answers
from bundler.runs.record import Run
from bundler.types import Answer, Progress, Runtime

RUN_S = 120.0


def quiet(stage: str, done: int, total: int | None, /) -> None:
    """Ignores the progress."""


def deploy(phone: Phone, bundle: Bundle, runtime: Runtime = "cpu", progress: Progress = quiet, **options: Any) -> Run:
    request = DeployRequest(runtime=runtime, **{"devices": [phone.serial], "timeout_s": RUN_S, **options})
    return deploy_bundle(bundle.path, phone.server, request, progress)


@dataclass(frozen=True)
class Outcome:
    """The fetched result, with the answers at that time."""

    run: Run
    path: Path
    answers: tuple[Answer, ...]


def fetch(phone: Phone, bundle: Bundle, runtime: Runtime | None = None, **options: Any) -> Outcome:
    request = FetchRequest(devices=[phone.serial], runtime=runtime, **{"timeout_s": RUN_S, **options})
    fetched = fetch_answers(bundle.path, phone.server, request, quiet)
    return Outcome(fetched.run, fetched.path, tuple(answer for _, answer in fetched.answered()))


def sh(phone: Phone, script: str) -> str:
    return phone.run(["sh", "-c", script], doing="a test's script", timeout_s=30).stdout.decode()
