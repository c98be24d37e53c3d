"""Measures the waiting time for two phones and for one; the phones are virtual and sleep for each question."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.ground import Ground
from benchmarks.loads import quiet
from benchmarks.race import Side, Sides
from bundler.device.phone import AdbServer
from bundler.device.server import private_adb_server
from bundler.model.make import Recipe
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.pipeline.deploy import DeployRequest, deploy_bundle
from bundler.resources import DEMO_MODEL, DEMO_TOKENIZER
from bundler.soc import DEFAULT, known_socs
from bundler.types import Question, QuestionSet
from bundler.virtual.phones import start_phone, stop_phone

QUESTIONS, FEW = 200, 6
MILLISECONDS, SHORT = 100, 20  # that an inference takes


def two_beside_one(ground: Ground) -> Sides:
    server, serials = ground.opened(_two_phones)
    bundle = ground.made(_bundle)

    def deployed(count: int) -> Side:
        request = DeployRequest(runtime="cpu", devices=serials[:count], restart=True)
        return lambda: deploy_bundle(bundle, server, request, quiet).seconds

    deployed(2)()  # from here on all is on both phones
    return Sides(deployed(2), deployed(1))


def _bundle(ground: Ground) -> Path:
    count = ground.size(QUESTIONS, FEW)
    asked = (Question(f"q{n}", f"When was it built, {n}?", f"Bridge {n} was built in {n}.") for n in range(count))
    chip, recipe = known_socs()[DEFAULT], Recipe("fp32", converter="built-in")
    questions = QuestionSet(tuple(asked), may_be_unanswerable=False)
    request = BuildRequest(questions=questions, model=DEMO_MODEL, tokenizer=DEMO_TOKENIZER, soc=chip, recipe=recipe)
    return build_bundle(request, ground.folder / "bundle", quiet).path


@contextmanager
def _two_phones(ground: Ground) -> Iterator[tuple[AdbServer, list[str]]]:
    """Provides two phones and their adb server."""
    faults = [f"run-time:{ground.size(MILLISECONDS, SHORT)}"]
    with ExitStack() as ending:
        phones = []
        for number in range(2):
            phones.append(start_phone(known_socs()[DEFAULT], 0, ground.place(f"phone-{number}"), faults=faults))
            ending.callback(stop_phone, phones[-1])
        yield ending.enter_context(private_adb_server()), [each.serial for each in phones]
