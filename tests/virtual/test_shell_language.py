"""The shell's language, compared with what genuine mksh did, and what is ours alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.virtual.record_phone_scripts import CASES, SCRIPTS, full_script, read_scripts
from tests.virtual.shell_server import PhoneShell

RECORDED = [case for case in json.loads(CASES.read_text(encoding="utf-8")) if case["name"].startswith("language")]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhoneShell]:
    with PhoneShell(tmp_path_factory.mktemp("language") / "root") as shell:
        yield shell


def test_every_script_of_the_table_is_recorded() -> None:
    table = read_scripts(SCRIPTS.read_text(encoding="utf-8"))
    recorded = json.loads(CASES.read_text(encoding="utf-8"))
    assert [{key: case[key] for key in table[0]} for case in recorded] == table


@pytest.mark.parametrize("case", RECORDED, ids=[case["name"] for case in RECORDED])
def test_does_what_mksh_does(shell: PhoneShell, case: dict[str, Any]) -> None:
    result = shell.run(full_script(case["script"]), case["stdin"], fresh=True)
    assert (result.status, result.stdout) == (case["status"], case["stdout"]), result.stderr
    assert result.stderr == case["stderr"] if case["exact_stderr"] else bool(result.stderr) == bool(case["stderr"])


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("fi", "syntax error: unexpected 'fi'"),
        ("if true", "syntax error: unmatched 'if'"),
        ('echo "a', "no closing quote"),
        ("a | | b", "syntax error: unexpected '|'"),
        ("cat <<E\nx", "here document 'E' unclosed"),
        ("echo ${x!}", "${x!}: bad substitution"),
        ("f() {", "syntax error: unmatched '{'"),
    ],
)
def test_syntax_errors_are_one_line(shell: PhoneShell, script: str, message: str) -> None:
    result = shell.run(script)
    assert (result.status, result.stdout, result.stderr) == (1, "", f"/system/bin/sh: {message}\n")


@pytest.mark.parametrize("size", [1000, 100_000])
def test_deep_nesting_ends_without_a_traceback(shell: PhoneShell, size: int) -> None:
    result = shell.run("(" * size + ":" + ")" * size)
    assert result.status in (0, 1)
    assert "Traceback" not in result.stderr


def test_endless_recursion_ends(shell: PhoneShell) -> None:
    result = shell.run("f() { f; }; f; echo no")
    assert (result.status, result.stdout) == (1, "")
    assert "too deep" in result.stderr


def test_background_job_outlives_the_session(shell: PhoneShell) -> None:
    shell.run(
        "cd /data/local/tmp; setsid sh -c 'echo $$ >pid; sleep 0.3; echo done >after; sleep 30' "
        ">/dev/null 2>&1 </dev/null &",
        fresh=True,
    )
    later = shell.run(
        "cd /data/local/tmp; sleep 0.6; cat after; kill -0 $(cat pid) && kill -9 $(cat pid); sleep 0.1; "
        "kill -0 $(cat pid) 2>/dev/null || echo gone"
    )
    assert (later.status, later.stdout) == (0, "done\ngone\n")


def test_a_killed_background_job_tells_its_signal(shell: PhoneShell) -> None:
    assert shell.run("sleep 30 & sleep 0.05; kill $!; wait $!; echo $?").stdout == "143\n"


def test_commands_from_standard_input_share_it(shell: PhoneShell) -> None:
    result = shell.run(None, "echo a\nread x\nthis line\necho [$x]\nexit 4\necho no\n")
    assert (result.status, result.stdout) == (4, "a\n[this line]\n")


def test_environment_and_working_folder(shell: PhoneShell) -> None:
    result = shell.run("pwd; echo $PATH $HOME $X; umask", env={"HOME": "/", "X": "1"})
    assert result.stdout == "/\n/system/bin / 1\n000\n"


def test_programs_of_the_machine(shell: PhoneShell) -> None:
    script = (
        "hello a b; echo $?; cd /data/local/tmp; printf '\\177ELF\\002' >hello; chmod 755 hello; ./hello c; echo $?"
    )
    assert shell.run(script, fresh=True).stdout == "hello a b\n3\nhello c\n3\n"


def test_other_elf_files_are_not_run(shell: PhoneShell) -> None:
    result = shell.run("cd /data/local/tmp; printf '\\177ELF\\002' >x; ./x; chmod 755 x; ./x")
    assert result.status == 126
    assert result.stderr.splitlines() == [
        "/system/bin/sh: ./x: can't execute: Permission denied",
        "/system/bin/sh: ./x: not executable: 64-bit ELF file",
    ]


def test_parts_of_words_keep_their_bytes(shell: PhoneShell) -> None:
    result = shell.run("read x; printf '%s|' \"$x\" ${x#a} ${x%?}", "a\xff\xc3\xa9\n")
    assert result.stdout == "a\xff\xc3\xa9|\xff\xc3\xa9|a\xff|"


def test_session_leaves_no_file_behind(shell: PhoneShell, tmp_path: Path) -> None:
    shell.run("cd /data/local/tmp; x=$(seq 5000); cat <<E >/dev/null\n$x\nE", fresh=True)
    assert list(shell.work.iterdir()) == []
