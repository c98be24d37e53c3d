"""Tests doctor: every state of a phone with its remedy, and the table of the probe's facts."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from bundler.cli import main
from bundler.commands.examination import examine
from bundler.commands.phone_examination import CELLS, PhoneFinding, examine_phones, phone_rows
from bundler.device.phone import AdbServer, Phone
from bundler.device.probe import PhoneFacts
from bundler.errors import PhoneNotReady

FACTS = PhoneFacts(
    soc_model="SM8550-AB",
    abi="arm64-v8a",
    model="A phone",
    android="14",
    free_bytes=12_300_000_000,
    net_run="",
    soc_maker="QTI",
    platform="kalama",
    runs_programs=True,
    tar_gzip=True,
    gzip=True,
    sha256sum=True,
    setsid=True,
    selinux="Enforcing",
    battery_percent=87,
    battery_celsius=31.4,
    hottest_celsius=41.2,
    clock_skew_s=2,
)
REMEDIES = {
    "unauthorized": "Allow USB debugging",
    "authorizing": "Allow USB debugging",
    "offline": "Replug",
    "connecting": "Wait",
    "detached": "adb attach",
    "no permissions (user in plugdev group; are your udev rules wrong?); see [http://x.y/z.html]": "udev rules",
    "no permissions": "udev rules",
    "recovery": "adb reboot",
    "rescue": "adb reboot",
    "sideload": "adb reboot",
    "bootloader": "fastboot reboot",
}


@contextmanager
def adb_that_lists(*phones: tuple[str, str]) -> Iterator[AdbServer]:
    """Starts an adb server that supports one request: the list of phones."""
    listing = "".join(f"{serial}\t{state}\n" for serial, state in phones).encode()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection = server.accept()[0]
                    with connection:
                        if connection.recv(100):
                            connection.sendall(b"OKAY%04x%s" % (len(listing), listing))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield AdbServer("127.0.0.1", server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def column(phone: PhoneFinding) -> dict[str, str]:
    return dict(phone_rows([phone]))  # type: ignore[arg-type]


@pytest.mark.parametrize("state", REMEDIES)
def test_every_state_has_its_remedy(state: str) -> None:
    error = PhoneNotReady("R5CT", state)
    assert str(error) == f"phone R5CT is {state}"
    assert REMEDIES[state] in error.hint
    assert {known.partition(" (")[0] for known in REMEDIES} == set(PhoneNotReady.REMEDIES)


def test_phones_in_all_states_are_shown_side_by_side() -> None:
    states = [state for state in REMEDIES if " " not in state]
    with adb_that_lists(*((f"serial-{state}", state) for state in states)) as server:
        assert examine(server)[-1].ok
        phones = examine_phones(server)
    assert [(phone.serial, phone.state) for phone in phones] == [(f"serial-{state}", state) for state in states]
    rows = phone_rows(phones)
    assert [row[0] for row in rows] == ["state", "remedy", *CELLS]
    assert rows[0] == ("state", *states)
    assert rows[1] == ("remedy", *(PhoneNotReady.REMEDIES[state] for state in states))
    assert all(set(row[1:]) == {""} for row in rows[2:])


@pytest.mark.parametrize("state", [state for state in REMEDIES if " " in state])
@pytest.mark.parametrize("serial", ["R5CT", "(no serial number)"])
def test_a_usb_device_without_permissions_is_shown(serial: str, state: str) -> None:
    with adb_that_lists((serial, state)) as server:
        (phone,) = examine_phones(server)
    assert (phone.serial, phone.state) == (serial, state)
    assert "udev rules" in phone.remedy


def test_a_state_of_a_later_adb_is_shown_too() -> None:
    with adb_that_lists(("R5CT", "dreaming")) as server:
        assert [(phone.state, phone.remedy != "") for phone in examine_phones(server)] == [("dreaming", True)]


def test_no_phone_and_no_server() -> None:
    with adb_that_lists() as server:
        assert examine_phones(server) == []
    nobody = AdbServer("127.0.0.2", 9)
    assert examine_phones(nobody) == []
    assert not examine(nobody)[-1].ok


def test_a_phone_that_is_lost_meanwhile_is_a_finding() -> None:
    with adb_that_lists(("R5CT", "device")) as server:  # to everything else it answers with nonsense
        (phone,) = examine_phones(server)
    assert phone.facts is None
    assert "R5CT" in phone.state
    assert phone.remedy


def test_a_ready_phone_is_shown_with_what_it_tells(phone: Phone) -> None:
    (finding,) = examine_phones(phone.server)
    shown = column(finding)
    assert (shown["state"], shown["remedy"]) == ("ready", "")
    assert (shown["chip"], shown["Hexagon"]) == ("SM8650, Snapdragon 8 Gen 3", "v75")
    assert shown["runtimes"] == "cpu, gpu, dsp (fp16, w8a16, w16a16, w8a8)"
    assert (shown["ABI"], shown["Android"], shown["runs programs"], shown["tools"]) == (
        "arm64-v8a",
        "14",
        "yes",
        "complete",
    )
    assert shown["free"].endswith(" GB")
    assert shown["clock"] == "right"


def test_every_fact_has_its_cell() -> None:
    assert column(PhoneFinding("R5CT", "ready", FACTS)) == {
        "state": "ready",
        "remedy": "",
        "model": "A phone",
        "chip": "SM8550, Snapdragon 8 Gen 2",
        "Hexagon": "v73",
        "runtimes": "cpu, gpu, dsp (fp16, w8a16, w16a16, w8a8)",
        "Android": "14",
        "ABI": "arm64-v8a",
        "free": "12.3 GB",
        "runs programs": "yes",
        "snpe-net-run": "none, the bundle must bring it",
        "qnn-net-run": "none, the bundle must bring it",
        "tools": "complete",
        "SELinux": "Enforcing",
        "temperature": "41 °C",
        "battery": "87 %, 31.4 °C",
        "clock": "right",
    }


def test_what_is_amiss_or_not_told() -> None:
    odd = replace(
        FACTS, soc_model="SM8250", tar_gzip=False, setsid=False, runs_programs=False, clock_skew_s=-4000,
        free_bytes=None, battery_percent=None, battery_celsius=None, hottest_celsius=None, selinux="",
    )  # fmt: skip
    shown = column(PhoneFinding("R5CT", "ready", odd))
    assert (shown["runtimes"], shown["runs programs"], shown["clock"]) == ("cpu, gpu", "no", "4000 s behind")
    assert shown["tools"] == "without tar -z, setsid"
    assert {shown[what] for what in ("free", "battery", "temperature", "SELinux")} == {""}
    other = replace(FACTS, soc_model="MT6989", soc_maker="Mediatek", platform="mt6989")
    shown = column(PhoneFinding("R5CT", "ready", other))
    assert (shown["chip"], shown["Hexagon"], shown["runtimes"]) == ("MT6989 (not known here)", "", "cpu")


def test_the_command_shows_phones_in_a_table_of_their_own(capfd: pytest.CaptureFixture[str], phone: Phone) -> None:
    adb = ("--adb-host", phone.server.host, "--adb-port", str(phone.server.port))
    assert main(["doctor", *adb]) == 0
    shown = capfd.readouterr().out
    assert phone.serial in shown
    assert "SM8650, Snapdragon 8 Gen 3" in shown
    assert main(["doctor", *adb, "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert [told["serial"] for told in document["phones"]] == [phone.serial]
    assert document["phones"][0]["facts"]["runs_programs"] is True


def test_what_is_known_not_to_work_is_shown_for_the_phone_and_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bundler.commands.phone_examination.probe", lambda _: replace(FACTS, soc_model="SM7325"))
    with adb_that_lists(("p1", "device")) as server:
        (phone,) = examine_phones(server, "2.19.0.240124")
        (newer,) = examine_phones(server, "2.50.0.260828")
    names = [limit.name for limit in phone.limits]
    assert names == ["w8a16 on v68", "attention on v68"]
    assert [limit.name for limit in newer.limits] == names[1:]
    assert phone.to_json()["limits"][0]["warning"] in column(phone)["known limits"]
