"""Races one question to a phone that has the model against the manual way; and a build with a cached model.

Nothing computes: a stand-in for snpe-net-run unpacks prepared outputs. The manual way is a typical script: transformers
tokenizes, adb pushes the raw inputs, runs snpe-net-run and pulls the logits, numpy decodes.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import adbutils  # noqa: TID251  (its adb is the peer's)

from benchmarks.deploys import command
from benchmarks.ground import Ground
from benchmarks.link import SLOW, laid
from benchmarks.loads import bundle_of, made_up, quiet, with_stand_in
from benchmarks.race import Sides
from benchmarks.transfers import TREE, WAIT_S, phone
from benchmarks.watched import OURS, run
from bundler import layout
from bundler.bundle import Bundle
from bundler.device.phone import Phone
from bundler.engines import ENGINES
from bundler.pipeline.ask import AskRequest, Session, asking
from bundler.qa.texts import Text
from tests.finished import finished_bundle

BY_HAND = """
import subprocess, sys
from pathlib import Path
import numpy as np
from transformers import PreTrainedTokenizerFast
adb, tokenizer, question, context, folder, remote, program = sys.argv[1:8]
words = PreTrainedTokenizerFast(tokenizer_file=tokenizer, pad_token="[PAD]")
told = words(question, context, truncation="only_second", max_length=384, padding="max_length",
             return_offsets_mapping=True, return_token_type_ids=True)
names = ("input_ids", "attention_mask", "token_type_ids")
for name in names:
    np.array(told[name], "<f4").tofile(f"{folder}/{name}.raw")
line = " ".join(f"{name}:={name}.raw" for name in names)
Path(folder, "input_list.txt").write_text(f"%start_logits end_logits\\n{line}\\n")
adb = adb.split()
def do(*command):
    subprocess.run([*adb, *command], check=True, capture_output=True)
do("push", *(f"{folder}/{name}.raw" for name in names), f"{folder}/input_list.txt", remote)
options = "--container model.dlc --input_list input_list.txt --output_dir out"
do("shell", f"cd {remote} && mkdir -p out && {program} {options}")
do("pull", f"{remote}/out", folder)
start, end = (np.fromfile(f"{folder}/out/Result_0/{name}.raw", "<f4") for name in ("start_logits", "end_logits"))
offsets = told["offset_mapping"]
print(context[offsets[int(start.argmax())][0] : offsets[int(end.argmax())][1]])
"""
MANY, FEW = 10_000, 60
CONTEXT = "word1 word2 word3 was built in word4 by word5 and it is still there."
QUESTION = "word1 word2 word3?"


@dataclass(frozen=True)
class Ready:
    """A phone that has a bundle's model, and the same files in a folder that adb pushed."""

    phone: Phone
    bundle: Bundle
    context: Path

    @property
    def adb(self) -> list[str]:
        return [adbutils.adb_path(), "-P", str(self.phone.server.port), "-s", self.phone.serial]


def first(ground: Ground) -> Sides:
    """Runs `ask` in a separate process."""
    ready = ground.made(_ready)
    return Sides(lambda: _asked(ready))


def first_beside_hand(ground: Ground) -> Sides:
    ready, place = ground.made(_ready), ground.place("first-by-hand")
    return Sides(lambda: _asked(ready), lambda: _by_hand(ready, place))


def next_question(way: str) -> Callable[[Ground], Sides]:
    """Asks the next question of a session, `near` or `far`."""

    def sides(ground: Ground) -> Sides:
        session = ground.opened(_session, way)
        return Sides(lambda: _next(session))

    return sides


def next_beside_hand(ground: Ground) -> Sides:
    session, ready, place = ground.opened(_session, "near"), ground.made(_ready), ground.place("next-by-hand")
    return Sides(lambda: _next(session), lambda: _by_hand(ready, place))


def cached_build(ground: Ground) -> Sides:
    """Runs `build` of one question with a model that was converted before."""
    folder = ground.place("cached-build")
    number = iter(range(1000))

    def build() -> float:
        question = ["--question", f"When was {next(number)} built?", "--context", "It was built in 1808."]
        command = [*OURS, "build", *question, "--out", str(folder / "bundle")]
        return run(command, {"XDG_CACHE_HOME": str(folder / "cache")}).seconds

    for _ in range(2):  # fp16 looks at the questions; what it then converts is the same
        build()
    return Sides(build)


def many_answers_time(ground: Ground) -> Sides:
    """Measures the seconds of `evaluate` of many questions."""
    many = ground.made(_many)
    return Sides(lambda: _evaluated(many)[0])


def many_answers_memory(ground: Ground) -> Sides:
    """Measures its memory in megabytes."""
    many = ground.made(_many)
    return Sides(lambda: _evaluated(many)[1])


def _many(ground: Ground) -> Path:
    bundle, _ = finished_bundle(ground.place("evaluated") / "bundle", ground.size(MANY, FEW))
    _evaluated(bundle.path)  # the float32 reference is computed once
    return bundle.path


def _evaluated(bundle: Path) -> tuple[float, float]:
    ran = run([*OURS, "evaluate", str(bundle)])
    return ran.seconds, ran.peak_bytes / 1e6


def _ready(ground: Ground) -> Ready:
    place, near = ground.place("ready"), ground.opened(phone, "genuine")
    (place / "context.txt").write_text(CONTEXT, encoding="utf-8")
    bundle = with_stand_in(bundle_of(*made_up(1, place), place), 1)
    ready = Ready(near, bundle, place / "context.txt")
    command(near, bundle, "deploy", "--runtime", "cpu")
    near.run(["mkdir", "-p", TREE], doing="preparing", timeout_s=WAIT_S)
    device = bundle.path / layout.DEVICE
    files = [device / layout.MODEL, *(device / "bin").iterdir()]
    subprocess.run([*ready.adb, "push", *map(str, files), TREE], check=True, capture_output=True, timeout=WAIT_S)
    near.run(["chmod", "755", f"{TREE}/{ENGINES['snpe'].program}"], doing="preparing", timeout_s=WAIT_S)
    return ready


def _asked(ready: Ready) -> float:
    """Returns the seconds of `ask` without the engine's."""
    argv = [*OURS, "ask", QUESTION, "--context-file", str(ready.context), "--bundle", str(ready.bundle.path)]
    ran = run(
        [*argv, "--device", ready.phone.serial, "--json"], {"ANDROID_ADB_SERVER_PORT": str(ready.phone.server.port)}
    )
    return ran.seconds - json.loads(ran.said)["answers"][0]["phone_ms"] / 1000


def _by_hand(ready: Ready, place: Path) -> float:
    words = ready.bundle.path / layout.HOST / layout.TOKENIZER
    program = f"{TREE}/{ENGINES['snpe'].program}"
    arguments = [" ".join(ready.adb), str(words), QUESTION, CONTEXT, str(place), TREE, program]
    return run([sys.executable, "-c", BY_HAND, *arguments]).seconds


@contextmanager
def _session(ground: Ground, way: str) -> Iterator[Session]:
    ready = ground.made(_ready)
    with ExitStack() as stack:
        serial = ready.phone.serial
        if way == "far":
            serial = stack.enter_context(laid(SLOW, serial)).serial
        request = AskRequest(devices=[serial])
        session = stack.enter_context(asking(ready.bundle.path, ready.phone.server, request, quiet))
        _next(session)
        yield session


def _next(session: Session) -> float:
    reply = session.ask(QUESTION, [Text("", CONTEXT)])
    return (reply.total_ms - reply.phone_ms) / 1000
