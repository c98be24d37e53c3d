"""Tests where the virtual phone listens: on loopback, and elsewhere only with two options."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bundler.cli import main
from bundler.device.server import private_adb_server
from bundler.errors import UsageError
from bundler.soc import known_socs
from bundler.virtual.phones import list_phones, start_phone, stop_phone

LISTENING = "0A"
SOC = known_socs()["SM8650"]


@pytest.fixture(autouse=True)
def phones_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Sets the folder of `phone start`; ends running phones afterwards."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    root = tmp_path / "mbqa-bundle/phones"
    yield root
    for phone in list_phones(root):
        stop_phone(phone)


def heard_at(port: int) -> set[str]:
    """Returns the addresses on which this computer accepts connections at the port, according to the kernel."""
    found = set()
    for table, family, step in (("tcp", socket.AF_INET, 4), ("tcp6", socket.AF_INET6, 16)):
        path = Path("/proc/net") / table
        for row in (line.split() for line in path.read_text().splitlines()[1:]) if path.exists() else ():
            address, _, number = row[1].partition(":")
            if row[3] == LISTENING and int(number, 16) == port:
                raw = bytes.fromhex(address)
                words = b"".join(raw[at : at + 4][::-1] for at in range(0, step, 4))
                found.add(socket.inet_ntop(family, words))
    return found


def test_without_a_word_it_is_loopback(tmp_path: Path) -> None:
    phone = start_phone(SOC, 0, tmp_path / "phone")
    try:
        assert heard_at(phone.port) == {"127.0.0.1"}
    finally:
        stop_phone(phone)


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.7", "8.8.8.8", "126.255.255.255", "128.0.0.1"])
def test_others_are_kept_out(address: str, phones_root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["phone", "start", "--port", "0", "--listen", address]) == 2
    said = capfd.readouterr().err.splitlines()
    assert said[0] == f"error: {address}: others could reach the virtual phone there"
    assert said[1].startswith("hint: Listen on 127.0.0.1")
    assert "--allow-remote" in said[1]
    assert not phones_root.exists()
    with pytest.raises(UsageError, match="others could reach"):
        start_phone(SOC, 0, phones_root / "x", address=address)


@pytest.mark.parametrize("address", ["", "localhost", "::1", "127.0.0.1/8", "127.0.0.1 ", "$(id)", "0", "127.1"])
def test_what_is_no_address(address: str, phones_root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["phone", "start", "--listen", address, "--allow-remote"]) == 2
    assert f"error: {address!r} is not an IPv4 address" in capfd.readouterr().err
    assert not phones_root.exists()


def test_other_computers_are_let_in_with_a_warning(capfd: pytest.CaptureFixture[str], phones_root: Path) -> None:
    assert main(["phone", "start", "--port", "0", "--listen", "0.0.0.0", "--allow-remote", "--json"]) == 0
    said = capfd.readouterr()
    told = json.loads(said.out)
    assert f"warning: 0.0.0.0:{told['port']} can be reached from other computers" in said.err
    (phone,) = list_phones(phones_root)
    assert heard_at(phone.port) == {"0.0.0.0"}
    assert (told["address"], told["serial"]) == ("0.0.0.0", f"127.0.0.1:{phone.port}")
    with private_adb_server() as server:
        found = server.find(phone.serial)
        assert found.run(["getprop", "ro.soc.model"], doing="asking").stdout == b"SM8650\n"


def test_no_phone_is_open_to_other_computers(capfd: pytest.CaptureFixture[str], phones_root: Path) -> None:
    assert main(["phone", "start", "--port", "0", "--listen", "0.0.0.0", "--allow-remote", "--open"]) == 2
    assert "error: 0.0.0.0: --open is for 127.0.0.1 only" in capfd.readouterr().err
    assert not list_phones(phones_root)


def test_another_loopback_address(capfd: pytest.CaptureFixture[str], phones_root: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        assert main(["phone", "start", "--port", str(port), "--listen", "127.0.0.9"]) == 0
    assert "warning" not in capfd.readouterr().err
    (phone,) = list_phones(phones_root)
    assert (heard_at(phone.port), phone.serial) == ({"127.0.0.9"}, f"127.0.0.9:{port}")
    assert main(["phone", "start", "--port", str(port), "--listen", "127.0.0.9"]) == 5
    assert f"port {port} of 127.0.0.9 is in use" in capfd.readouterr().err
    with private_adb_server() as server:
        assert server.find(phone.serial).serial == phone.serial


def test_a_private_adb_server_is_for_this_computer_only() -> None:
    with private_adb_server() as server:
        heard = heard_at(server.port)
        assert heard
        assert heard <= {"127.0.0.1", "::1"}
