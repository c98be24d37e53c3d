"""Runs all readers of foreign data on the corpus of tests/fuzz, with some mutations. Longer: `python -m tests.fuzz`."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fuzz import __main__ as command
from tests.fuzz import engine, targets
from tests.fuzz.engine import Hang, watched
from tests.fuzz.targets import CORPUS, TARGETS, Target, check, corpus

HANG_S = 60  # on a busy machine
EXAMPLES = dict.fromkeys(TARGETS, 50) | {
    "manifest": 20, "host_file": 15, "run_file": 15, "input_list": 30, "sync_service": 30,
    "tokenizer": 20, "onnx_graph": 3, "dlc": 10,
}  # fmt: skip
KEPT = [(name, path) for name in TARGETS for path in corpus(name)]


@pytest.mark.parametrize(("name", "path"), KEPT, ids=[f"{name}-{path.name}" for name, path in KEPT])
def test_what_is_kept_is_taken_or_refused(name: str, path: Path) -> None:
    with watched(HANG_S):
        if path.name.startswith("valid"):
            TARGETS[name].run(path.read_bytes())  # not even refused
        else:
            check(name, path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_changed_is_taken_or_refused(name: str) -> None:
    @settings(
        max_examples=EXAMPLES[name], deadline=None, database=None, suppress_health_check=list(HealthCheck),
        print_blob=False,
    )  # fmt: skip
    @given(st.sampled_from(corpus(name)), st.integers(0, 2**32 - 1))
    def changed(path: Path, seed: int) -> None:
        with watched(HANG_S):
            check(name, TARGETS[name].mutate(path.read_bytes(), Random(seed)))

    changed()


def test_every_target_has_a_corpus_and_no_other_has_one() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    for name in TARGETS:
        assert TARGETS[name].run.__doc__, name
        assert corpus(name), name


@given(st.integers(0, 2**32 - 1), st.sampled_from(list(TARGETS)))
@example(0, "squad_json")
@settings(max_examples=100, deadline=None, database=None)
def test_a_change_depends_on_its_seed_alone(seed: int, name: str) -> None:
    data = corpus(name)[0].read_bytes()
    assert TARGETS[name].mutate(data, Random(seed)) == TARGETS[name].mutate(data, Random(seed))


@pytest.mark.parametrize("defect", [KeyError, Hang, MemoryError])
def test_an_input_that_fails_is_left_behind(
    defect: type[BaseException], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:

    def run(data: bytes) -> None:
        """A target."""
        if data != b"good":
            raise defect("on purpose")

    good = tmp_path / "good"
    good.write_bytes(b"good")
    monkeypatch.setattr(targets, "corpus", lambda _: (good,))
    monkeypatch.setitem(TARGETS, "frames", Target(run))

    with pytest.raises(defect):
        engine.fuzz_plain("frames", 60, tmp_path, seed=1)
    assert (tmp_path / "findings/current").read_bytes() != b"good"
    assert int((tmp_path / "executions").read_text()) >= 1


@pytest.mark.slow
def test_the_command_counts_executions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["frames", "--plain", "--seconds", "1", "--jobs", "1", "--out", str(tmp_path)]) == 0
    name, count, *_ = capsys.readouterr().out.splitlines()[-1].split()
    assert name == "frames"
    assert int(count) > len(corpus("frames"))


def test_a_seed_gives_the_same_inputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    taken: list[bytes] = []

    def run(data: bytes) -> None:
        """A target."""
        taken.append(data)
        if len(taken) % 50 == 0:
            raise KeyError("enough")

    monkeypatch.setitem(TARGETS, "frames", Target(run))
    for seed in (1, 1, 2):
        with pytest.raises(KeyError):
            engine.fuzz_plain("frames", 60, tmp_path, seed)
    assert taken[:50] == taken[50:100] != taken[100:]


def test_the_command_tells_of_a_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process of a missing target imitates one that dies."""
    monkeypatch.setitem(TARGETS, "gone", TARGETS["frames"])
    assert command.main(["gone", "--plain", "--seconds", "1", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "exit code 1, no input" in said
    assert "corpus/gone" in said  # where the process ends


def test_the_command_knows_its_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(TARGETS)
    with pytest.raises(SystemExit):
        command.main(["no_such_target"])
    assert "no target no_such_target" in capsys.readouterr().err
