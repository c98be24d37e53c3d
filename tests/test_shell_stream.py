"""Tests too much output of a command on a phone."""

import threading

import pytest

from bundler.device import shell_stream
from bundler.device.phone import Phone
from bundler.device.shell_stream import STDERR, STDOUT, LinkBroken, ShellStream
from bundler.errors import PhoneRefused
from tests.fuzz.transport import daemon_says

LIMIT_S = 20.0
END = b"\3\1\0\0\0\0"


def packet(kind: int, data: bytes) -> bytes:
    return bytes((kind,)) + len(data).to_bytes(4, "little") + data


def pump(said: bytes, out: list[bytes]) -> tuple[int, bytes]:
    with daemon_says(said) as connection:
        return ShellStream(connection, [], out.append).pump(LIMIT_S, LIMIT_S, threading.Event())


def test_a_packet_that_no_daemon_sends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_stream, "LARGEST_INCOMING", 100)
    out: list[bytes] = []
    assert pump(packet(STDOUT, b"x" * 95) + END, out) == (0, b"")
    assert out == [b"x" * 95]
    with pytest.raises(LinkBroken, match="not the output of a command"):
        pump(packet(STDOUT, b"x" * 96) + END, [])


def test_of_endless_complaints_the_first_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_stream, "LARGEST_STDERR", 5)
    said = packet(STDERR, b"abc") + packet(STDERR, b"defg") + packet(STDERR, b"h") + END
    assert pump(said, []) == (0, b"abcde")


@pytest.mark.parametrize("phone", ["virtual"], indirect=True)
def test_a_command_that_says_too_much_is_refused(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bundler.device.phone.LARGEST_OUTPUT", 1 << 20)
    assert len(phone.run(["head", "-c", str(1 << 20), "/dev/zero"], doing="reading").stdout) == 1 << 20
    with pytest.raises(PhoneRefused, match="its output is larger than 1 MB"):
        phone.run(["cat", "/dev/zero"], doing="reading")
