"""Runs the load tests of `python -m tests.load` at a small scale."""

from pathlib import Path

import pytest

from tests.load.census import marked, processes_of
from tests.load.clients import ask_at_once
from tests.load.commands import command
from tests.load.many import ask_many
from tests.load.rounds import go_round

pytestmark = pytest.mark.slow


def test_many_questions(tmp_path: Path) -> None:
    many = ask_many(tmp_path, 150)
    assert many.failures == []
    assert many.windows >= many.questions == 150


def test_nothing_grows_from_round_to_round(tmp_path: Path) -> None:
    rounds = go_round(tmp_path, 3)
    assert rounds.failures == []
    assert (rounds.before.adb_servers, rounds.before.processes) == (1, 2)  # the phone is the other one
    assert rounds.before.phone_blobs > 0


@pytest.mark.parametrize("shared_server", [True, False], ids=["one adb server", "own adb servers"])
def test_clients_at_one_phone_at_once(shared_server: bool, tmp_path: Path) -> None:
    clients = ask_at_once(tmp_path, 2, shared_server=shared_server)
    assert clients.failures == []
    assert clients.servers == (1 if shared_server else 2)


def test_what_is_left_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with marked(tmp_path / "tmp") as mark:
        assert processes_of(mark) == []
        command("phone", "start", "--port", "0")
        assert len(processes_of(mark)) == 1
        command("phone", "stop")
        assert processes_of(mark) == []
    with pytest.raises(RuntimeError, match="ended with 2"):
        command("deploy", "--no-such-option")
