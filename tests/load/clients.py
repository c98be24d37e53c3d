"""Runs several clients with separate bundles at one phone at once, and checks all answers."""

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bundler.bundle import Bundle
from bundler.device.server import private_adb_server
from bundler.qa.questions import read_squad
from bundler.resources import DEMO_QUESTIONS
from bundler.runs.answers import decode_answers
from bundler.runs.reference import CHUNK, reference_logits
from tests.deploying import quiet
from tests.load.commands import Ran, command
from tests.load.material import demo_bundle, phone_of

EACH = 3  # questions of a client


@dataclass(frozen=True)
class Clients:
    """The number of clients at `servers` adb servers; `wrong`: answers that differ from the float32 reference here;
    `troubles`: the messages of failed commands."""

    clients: int
    servers: int
    answers: int
    wrong: int
    troubles: tuple[str, ...]
    seconds: float
    slowest: float

    @property
    def failures(self) -> list[str]:
        told = list(self.troubles)
        if self.wrong:
            told.append(f"{self.wrong} of {self.answers} answers are wrong")
        if self.answers != EACH * self.clients:
            told.append(f"{self.answers} answers to {EACH * self.clients} questions")
        return told

    @property
    def lines(self) -> list[str]:
        servers = "one adb server" if self.servers == 1 else f"{self.servers} adb servers"
        told = f"{self.clients} clients at {servers}, one phone: {self.answers} answers, {self.wrong} wrong"
        return [f"{told}, {self.seconds:.1f} s (slowest client {self.slowest:.1f} s)"]


def ask_at_once(folder: Path, clients: int, *, shared_server: bool) -> Clients:
    """Runs deploy and fetch in each client; the phone computes the model's results."""
    known = list(read_squad(DEMO_QUESTIONS))
    bundles = [
        demo_bundle(folder / str(number), [known[(number + n) % len(known)] for n in range(EACH)])
        for number in range(clients)
    ]
    done: dict[int, Ran] = {}
    troubles: dict[int, str] = {}
    ready = threading.Barrier(clients + 1)
    with phone_of(folder / "phone") as phone, ExitStack() as stack:
        servers = [stack.enter_context(private_adb_server()) for _ in range(1 if shared_server else clients)]

        def ask(number: int) -> None:
            at = ("--bundle", str(bundles[number].path), "--device", phone.serial)
            port = servers[number % len(servers)].port
            ready.wait()
            try:
                deployed = command("deploy", *at, adb_port=port)
                fetched = command("fetch-answers", *at, adb_port=port)
                done[number] = Ran(fetched.document, deployed.seconds + fetched.seconds, fetched.peak_bytes)
            except RuntimeError as error:
                troubles[number] = str(error)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        ready.wait()
        begun = time.monotonic()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - begun
    told = {number: _texts(ran.document) for number, ran in done.items()}
    wrong = sum(
        answer != expected
        for number, answers in told.items()
        for answer, expected in zip(answers, _expected(bundles[number]), strict=True)
    )
    return Clients(
        clients, len(servers), sum(map(len, told.values())), wrong, tuple(troubles.values()), seconds,
        max((ran.seconds for ran in done.values()), default=0.0),
    )  # fmt: skip


def _texts(document: dict[str, list[dict[str, str]]]) -> list[tuple[str, str]]:
    return [(answer["id"], answer["answer"]) for answer in document["answers"]]


def _expected(bundle: Bundle) -> list[tuple[str, str]]:
    """Returns the answers of the float32 model on this machine."""
    folder = reference_logits(bundle, quiet)
    return [(answer.question_id, answer.text) for answer in decode_answers(bundle, folder, CHUNK)]
