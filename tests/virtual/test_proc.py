"""What a job's script asks the system for: processes that outlive their session, /proc, sensors."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.virtual.shell_server import PhoneShell


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhoneShell]:
    with PhoneShell(tmp_path_factory.mktemp("proc") / "root") as shell:
        yield shell


DETACHED = """
cd /data/local/tmp
echo 'echo $$ >pid.new; mv pid.new pid; sleep 30 & wait; echo late >late' >job.sh
setsid sh job.sh one 'two three' </dev/null >/dev/null 2>&1 &
until [ -f pid ]; do sleep 0.02; done
P=$(cat pid)
"""


def test_a_detached_script_shows_its_command_line_until_its_group_is_killed(shell: PhoneShell) -> None:
    done = shell.run(
        DETACHED + "kill -0 $P && cat /proc/$P/cmdline; echo; kill -9 -- -$P; sleep 0.1\n"
        "kill -0 $P || echo dead; [ -e /proc/$P ] || echo gone; ls",
        fresh=True,
    )
    command, *rest = done.stdout.splitlines()
    assert command.split("\0")[:4] == ["sh", "job.sh", "one", "two three"]
    assert rest == ["dead", "gone", "job.sh", "pid"]


def test_programs_are_known_by_their_names(shell: PhoneShell) -> None:
    done = shell.run("sleep 20 & P=$!; sleep 0.1; ps -p $P -o NAME; pidof sleep; echo $P; cat /proc/$P/comm; kill $P")
    title, name, found, pid, comm = done.stdout.split()
    assert (title, name, comm, found) == ("NAME", "sleep", "sleep", pid)


def test_a_process_that_ended_leaves_nothing_in_proc(shell: PhoneShell) -> None:
    done = shell.run('sleep 0 & P=$!; wait $P; [ -d /proc/$P ] || echo none; ls /proc | grep -c "^[0-9]"')
    assert done.stdout.split()[0] == "none"


def test_the_kernels_files(shell: PhoneShell) -> None:
    done = shell.run("cat /proc/sys/kernel/random/boot_id; cat /proc/uptime; getenforce; dumpsys battery")
    boot_id, uptime, mode, *battery = done.stdout.splitlines()
    assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", boot_id)
    assert 0 < float(uptime.split()[0]) < 1000
    assert mode == "Enforcing"
    assert {"  level: 86", "  temperature: 301"} <= set(battery)


def test_sensors_have_types_and_temperatures(shell: PhoneShell) -> None:
    done = shell.run('for z in /sys/class/thermal/thermal_zone*; do echo "$(cat $z/type) $(cat $z/temp)"; done')
    assert "cpu-0-0-0 41300" in done.stdout.splitlines()


def test_what_a_killed_process_wrote_down_goes_when_the_next_session_begins(tmp_path: Path) -> None:
    with PhoneShell(tmp_path / "root") as shell:
        pid = shell.run("sleep 20 & sleep 0.3; kill -9 $!; echo $!").stdout.strip()
        (noted,) = (tmp_path / "root").rglob(f"proc/{pid}")
        assert shell.run("sleep 0; echo on").stdout == "on\n"
        assert not noted.exists()
