"""The phone's tools, compared with what genuine toybox did; and that nothing reaches the host."""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.virtual.record_phone_scripts import CASES, full_script
from tests.virtual.shell_server import PhoneShell

RECORDED = [case for case in json.loads(CASES.read_text(encoding="utf-8")) if case["name"].startswith("tools")]
SECRET = "secret of the host"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhoneShell]:
    with PhoneShell(tmp_path_factory.mktemp("tools") / "root") as shell:
        yield shell


@pytest.fixture
def outside(shell: PhoneShell) -> Path:
    """A folder of the host beside the phone's storage, with a file in it."""
    folder = shell.root.parent / "outside"
    folder.mkdir(exist_ok=True)
    (folder / "secret").write_text(SECRET)
    return folder


@pytest.mark.parametrize("case", RECORDED, ids=[case["name"] for case in RECORDED])
def test_does_what_toybox_does(shell: PhoneShell, case: dict[str, Any]) -> None:
    result = shell.run(full_script(case["script"]), case["stdin"], fresh=True)
    assert (result.status, result.stdout) == (case["status"], case["stdout"]), result.stderr
    assert result.stderr == case["stderr"] if case["exact_stderr"] else bool(result.stderr) == bool(case["stderr"])


@pytest.mark.parametrize(
    "script",
    [
        "cat /etc/passwd",
        "cat ../../../../../../etc/passwd",
        "cat /data/local/tmp/../../../../etc/passwd",
        "ln -s /etc/passwd l; cat l",
        "ln -s /etc d; cat d/passwd; ls d/",
        "ln -s ../../../../../../../../etc d; cat d/passwd",
        "ln -s / r; cat r/etc/passwd",
        "cat </etc/passwd",
        "x=$(</etc/passwd); echo $x",
        "echo /etc/pass* /etc/*",
        "read x </etc/passwd; echo $x",
        ". /etc/passwd",
        "sh /etc/passwd",
        "find / -name passwd",
        "grep -r root / 2>/dev/null",
        "tar c /etc/passwd | tar xO",
        "dd if=/etc/passwd",
        "cp /etc/passwd p; cat p",
        "ln /etc/passwd h; cat h",
        "head -n 1 /proc/1/environ /proc/self/environ",
        "cat /proc/self/root/etc/passwd",
    ],
)
def test_nothing_of_the_host_is_read(shell: PhoneShell, script: str) -> None:
    result = shell.run(full_script(script), fresh=True)
    assert "root:" not in result.stdout + result.stderr
    assert "/bin/" not in result.stdout.replace("/system/bin", "")


@pytest.mark.parametrize("executable", ["/bin/sh", "/bin/ls", "/usr/bin/env", "/usr/bin/python3", "../../../../bin/ls"])
def test_no_program_of_the_host_is_run(shell: PhoneShell, executable: str) -> None:
    assert shell.run(full_script(f"{executable} -c 'echo ran'"), fresh=True).status == 127
    assert shell.run(full_script(f"env {executable} -c 'echo ran'")).status == 127


@pytest.mark.parametrize(
    "template",
    [
        "echo x >{0}/new",
        "echo x >>{0}/secret",
        "rm -rf {0} {0}/secret",
        "ln -s {0} l; echo x >l/new; rm -rf l/secret; touch l/new; mkdir l/new",
        "ln -s {0}/secret l; echo x >l; truncate -s 0 l; chmod 0 l; sed -i s/s/x/ l; dd if=/dev/zero of=l count=1",
        "mv {0}/secret .; cp /dev/null {0}/secret; ln -f /dev/null {0}/secret",
        "echo x | tee {0}/new; mktemp -p {0} x.XXXXXX; split -b 1 - {0}/new",
        "echo x >f; tar cf t f; tar xf t -C {0}",
        "find {0} -delete; find / -name secret -delete",
        "touch a; mv a {0}/a; cp a {0}/a; ln -s a {0}/a; mkdir -p {0}/b; gzip -c a >{0}/a.gz; exec 3>{0}/new",
    ],
)
def test_nothing_of_the_host_is_changed(shell: PhoneShell, outside: Path, template: str) -> None:
    up = "/".join([".."] * 12)
    for path in (str(outside), f"{up}{outside}", "../../../../outside", "/../outside"):
        shell.run(full_script(template.format(path)), fresh=True)
        assert [entry.name for entry in outside.iterdir()] == ["secret"]
        assert (outside / "secret").read_text() == SECRET


def archive(*members: tuple[str, str, str]) -> str:
    """A tar archive of (name, kind, target or content) as text of single bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as writer:
        for name, kind, value in members:
            info = tarfile.TarInfo(name)
            if kind == "file":
                info.size = len(value)
                writer.addfile(info, io.BytesIO(value.encode()))
            else:
                info.type = {"symlink": tarfile.SYMTYPE, "link": tarfile.LNKTYPE, "folder": tarfile.DIRTYPE}[kind]
                info.linkname = value
                writer.addfile(info)
    return buffer.getvalue().decode("latin-1")


@pytest.mark.parametrize(
    "members",
    [
        [("../out", "file", "x")],
        [("../../../../../../out", "file", "x")],
        [("a/../../out", "file", "x")],
        [("l", "symlink", ".."), ("l/out", "file", "x")],
        [("l", "symlink", "/data/local/tmp"), ("l/out", "file", "x")],
        [("l", "symlink", "OUTSIDE"), ("l/secret", "file", "x")],
        [("l", "symlink", "OUTSIDE/secret"), ("l", "file", "x")],
        [("l", "symlink", ".."), ("l", "folder", ""), ("l/out", "file", "x")],
        [("a", "symlink", "b/.."), ("b", "symlink", ".."), ("b/a/out", "file", "x")],
        [("h", "link", "OUTSIDE/secret"), ("h", "file", "x")],
        [("h", "link", "../secret")],
        [("OUTSIDE/secret", "file", "x")],
    ],
)
def test_archives_unpack_below_their_folder_only(
    shell: PhoneShell, outside: Path, members: list[tuple[str, str, str]]
) -> None:
    named = [
        (name.replace("OUTSIDE", str(outside)), kind, value.replace("OUTSIDE", str(outside)))
        for name, kind, value in members
    ]
    shell.run("cd /data/local/tmp; echo kept >out; echo kept >secret; mkdir in", fresh=True)
    shell.run("cd /data/local/tmp/in; tar x", archive(*named))
    assert sorted(entry.name for entry in shell.work.iterdir()) == ["in", "out", "secret"]
    assert [(shell.work / name).read_text() for name in ("out", "secret")] == ["kept\n", "kept\n"]
    assert (outside / "secret").read_text() == SECRET
    assert sorted(entry.name for entry in shell.root.parent.iterdir()) == ["outside", "root"]


def test_archives_keep_names_that_merely_look_dangerous(shell: PhoneShell) -> None:
    data = archive(("..a/b..", "file", "1"), ("/abs/c", "file", "2"), ("l", "symlink", "../elsewhere"))
    shell.run("cd /data/local/tmp; tar x", data, fresh=True)
    assert (shell.work / "..a/b..").read_text() == "1"
    assert (shell.work / "abs/c").read_text() == "2"
    assert os.readlink(shell.work / "l") == "../elsewhere"  # noqa: PTH115


def test_processes_of_the_host_are_out_of_reach(shell: PhoneShell) -> None:
    host = str(os.getpid())
    result = shell.run(f"kill -0 {host}; echo $?; kill -0 1; echo $?; kill -0 -{os.getpgrp()}; echo $?; ps -A -o PID")
    assert result.stdout.split()[:3] == ["1", "1", "1"]
    assert host not in result.stdout.split()[3:]


def test_kill_minus_one_stays_on_the_phone(shell: PhoneShell) -> None:
    result = shell.run("sleep 20 & sh -c 'kill -9 -1'; wait $!; echo $?")
    assert result.status in (0, 137)
    assert shell.run("echo alive").stdout == "alive\n"


def test_properties_and_identity(shell: PhoneShell) -> None:
    script = "getprop ro.soc.model; getprop none; getprop none default; getprop; id; whoami; uname -m"
    assert shell.run(script).stdout.splitlines() == [
        "SM8650",
        "",
        "default",
        "[ro.product.cpu.abi]: [arm64-v8a]",
        "[ro.soc.model]: [SM8650]",
        "uid=2000(shell) gid=2000(shell) groups=2000(shell)",
        "shell",
        "aarch64",
    ]


@pytest.mark.parametrize("target", ["/system/bin/x", "/data/x", "/x", "/sdcard/x", "/dev/x", "/data/local/x"])
def test_only_data_local_tmp_is_writable(shell: PhoneShell, target: str) -> None:
    result = shell.run(f"echo x >{target} || mkdir {target} || touch {target} || cp /dev/null {target}")
    assert result.status == 1
    assert result.stderr.count("Read-only file system") == 4


def test_data_local_tmp_itself_stays(shell: PhoneShell) -> None:
    assert (
        shell.run("touch /data/local/tmp/f; rm -rf /data/local/tmp; mv /data/local/tmp /data/local/tmp/x").status == 1
    )
    assert shell.work.is_dir()


def test_large_streams_pass_whole(shell: PhoneShell) -> None:
    script = "head -c 20000000 /dev/zero | tee /dev/null | gzip -1 | gzip -d | wc -c; seq 200000 | sort -r | sha256sum"
    result = shell.run(script)
    assert result.stdout.split() == ["20000000", *result.stdout.split()[1:]]
    assert len(result.stdout.split()[1]) == 64


def test_a_damaged_archive_is_told(shell: PhoneShell) -> None:
    result = shell.run("cd /data/local/tmp; tar x", "\x1f\x8b junk", fresh=True)
    assert result.status == 1
    assert result.stderr
    assert "internal" not in result.stderr
