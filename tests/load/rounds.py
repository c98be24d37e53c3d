"""Repeats deploy and fetch on one phone, and checks that nothing grows."""

import time
from dataclasses import dataclass
from pathlib import Path

from bundler.bundle import Bundle
from bundler.device.phone import AdbServer
from bundler.device.server import private_adb_server
from bundler.pipeline.deploy import DeployRequest, deploy_bundle
from bundler.pipeline.fetch import FetchRequest, fetch_answers
from bundler.types import Question
from tests.deploying import quiet
from tests.load.census import SETTLE_S, Census, marked, phone_files, processes_of, settled, take
from tests.load.commands import command
from tests.load.material import FAST, demo_bundle, phone_of

TYPED_EVERY = 10  # every so many rounds it is processes of their own that do it
WARM_UP = 2  # rounds before the first census, one of each way: what is made once is made
LAST_LOOKS = 3  # what one run leaves, the next one removes: only what stays after another round has grown
TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Rounds:
    """The number of rounds, of which some were `typed`; the census before and after; resident bytes of this process and
    of the phone's daemon, before and after; `left` processes lived after the end; `passing` files were on the phone
    after the last round but not after another, `new_on_phone` files still were."""

    rounds: int
    typed: int
    seconds: float
    before: Census
    after: Census
    own_bytes: tuple[int, int]
    phone_bytes: tuple[int, int]
    left: int
    left_files: int
    new_on_phone: tuple[str, ...]
    passing: tuple[str, ...]

    @property
    def failures(self) -> list[str]:
        told = [f"{name} grew from {was} to {now}" for name, (was, now) in self.after.grown(self.before).items()]
        told += [f"new on the phone: {name}" for name in self.new_on_phone]
        if self.left:
            told.append(f"{self.left} processes outlived the phone and the adb server")
        if self.left_files:
            told.append(f"{self.left_files} temporary files were left")
        return told

    @property
    def lines(self) -> list[str]:
        counts = [
            f"  {name:18} {was:6} before, {vars(self.after)[name]:6} after" for name, was in vars(self.before).items()
        ]
        memory = [
            f"  resident, {whose:10} {was / 1e6:6.1f} MB before, {now / 1e6:6.1f} MB after"
            for whose, (was, now) in (("this one", self.own_bytes), ("the phone", self.phone_bytes))
        ]
        told = f"{self.rounds} rounds of deploy and fetch-answers ({self.typed} as processes), {self.seconds:.0f} s:"
        ended = f"  when all had ended: {self.left} processes, {self.left_files} temporary files"
        passing = [f"  on the phone until the next run: {name}" for name in self.passing]
        return [told, *counts, *memory, *passing, ended]


def go_round(folder: Path, rounds: int) -> Rounds:
    """Runs all rounds in one process, as a program that uses the package does, and the rest as commands."""
    questions = [Question(f"q{n}", f"When was it built, {n}?", f"Bridge {n} was built in {n}.") for n in range(6)]
    bundle = demo_bundle(folder / "bundle", questions)
    temporary = folder / "tmp"
    with marked(temporary) as mark:
        with phone_of(folder / "phone", FAST) as phone, private_adb_server() as server:

            def look() -> Census:
                return take(mark, temporary, phone.pid, phone.state)

            for number in range(WARM_UP):
                _round(bundle, server, phone.serial, typed=number == 0)
            before, files_before = settled(look), phone_files(phone.state)
            resident = (_resident("self"), _resident(str(phone.pid)))
            begun, typed = time.monotonic(), 0
            for number in range(rounds):
                as_process = number % TYPED_EVERY == 0
                _round(bundle, server, phone.serial, typed=as_process)
                typed += as_process
            seconds = time.monotonic() - begun
            seen: set[str] = set()
            for _ in range(LAST_LOOKS):
                after, fresh = settled(look, before), phone_files(phone.state) - files_before
                seen |= fresh
                if not after.grown(before):
                    break
                _round(bundle, server, phone.serial, typed=False)
            own, phones = (resident[0], _resident("self")), (resident[1], _resident(str(phone.pid)))
        left = _left(mark)
        files = sum(1 for _ in temporary.rglob("*"))
    return Rounds(
        rounds,
        typed,
        seconds,
        before,
        after,
        own,
        phones,
        left,
        files,
        tuple(sorted(fresh)),
        tuple(sorted(seen - fresh)),
    )


def _round(bundle: Bundle, server: AdbServer, serial: str, *, typed: bool) -> None:
    """Deploys again and fetches.

    Raises:
        RuntimeError: an answer is missing
    """
    at = ("--bundle", str(bundle.path), "--device", serial)
    if typed:
        command("deploy", *at, "--restart", "--chunk", "4", adb_port=server.port)
        count = len(command("fetch-answers", *at, adb_port=server.port).document["answers"])
    else:
        request = DeployRequest(runtime="cpu", devices=[serial], chunk=4, restart=True, timeout_s=TIMEOUT_S)
        deploy_bundle(bundle.path, server, request, quiet)
        fetched = fetch_answers(bundle.path, server, FetchRequest(devices=[serial], timeout_s=TIMEOUT_S), quiet)
        count = sum(1 for _ in fetched.answered())
    if count != len(bundle.questions):
        raise RuntimeError(f"{count} answers to {len(bundle.questions)} questions")


def _left(mark: str) -> int:
    """Returns how many of the processes still live, a while after the end."""
    deadline = time.monotonic() + SETTLE_S
    while (left := processes_of(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return len(left)


def _resident(process: str) -> int:
    text = Path(f"/proc/{process}/status").read_text()
    return 1024 * int(text.partition("VmRSS:")[2].split()[0])
