"""How long a person waits for two phones and for one, on 200 questions; the phones are virtual and sleep 100 ms each.

    python -m benchmarks.phones [--rounds 5] [--milliseconds 100]

Prints the ratio of each of the alternating rounds; issue 4 wants 0.65 at most.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.loads import quiet
from benchmarks.machine import made_by
from bundler.build import BuildRequest, build_bundle
from bundler.deploy import DeployRequest, deploy_bundle
from bundler.device.phone import AdbServer
from bundler.device.server import private_adb_server
from bundler.model.make import Recipe
from bundler.resources import DEMO_MODEL, DEMO_TOKENIZER
from bundler.soc import DEFAULT, known_socs
from bundler.types import Question, QuestionSet
from bundler.virtual.phones import start_phone, stop_phone

QUESTIONS = 200
LIMIT = 0.65


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--milliseconds", type=int, default=100, help="that an inference takes")
    options = parser.parse_args()
    asked = (Question(f"q{n}", f"When was it built, {n}?", f"Bridge {n} was built in {n}.") for n in range(QUESTIONS))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ending:
        soc, bundle = known_socs()[DEFAULT], Path(folder) / "bundle"
        recipe = Recipe("fp32", converter="built-in")
        build_bundle(
            BuildRequest(QuestionSet(tuple(asked), False), DEMO_MODEL, DEMO_TOKENIZER, soc, recipe=recipe),
            bundle,
            quiet,
        )
        phones = []
        for number in range(2):
            state = Path(folder) / str(number)
            phones.append(start_phone(soc, 0, state, faults=[f"run-time:{options.milliseconds}"]))
            ending.callback(stop_phone, phones[-1])
        serials = [phone.serial for phone in phones]
        server = ending.enter_context(private_adb_server())
        rounds = [
            (_seconds(bundle, server, serials[:1]), _seconds(bundle, server, serials)) for _ in range(options.rounds)
        ]
    ratios = sorted(two / one for one, two in rounds)
    told = "\n".join(f"one phone {one:.1f} s, two phones {two:.1f} s: {two / one:.2f}" for one, two in rounds)
    verdict = "holds" if statistics.median(ratios) <= LIMIT else "missed"
    spread = f"{ratios[0]:.2f} / {statistics.median(ratios):.2f} / {ratios[-1]:.2f}"
    sys.stdout.write(f"{made_by('benchmarks.phones')}\n{told}\nratio min / median / max {spread}: {LIMIT} {verdict}\n")


def _seconds(bundle: Path, server: AdbServer, serials: Sequence[str]) -> float:
    return deploy_bundle(bundle, server, DeployRequest("cpu", serials, restart=True), quiet).seconds


if __name__ == "__main__":
    main()
