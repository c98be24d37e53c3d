"""The virtual phone's shell does what genuine mksh and toybox do, and reaches nothing outside the phone's storage."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.device.phone import Completed, Phone
from tests.phones import genuine_phone, virtual_phone, why_no_genuine_phone
from tests.virtual.record_shell_cases import CASES, behaviour
from tests.virtual.shell_scripts import SCRIPTS

RECORDED = json.loads(CASES.read_text(encoding="utf-8"))
TMP = "/data/local/tmp"


@pytest.fixture(scope="module", params=["virtual", pytest.param("genuine", marks=pytest.mark.genuine)])
def any_phone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    if request.param == "virtual":
        with virtual_phone(tmp_path_factory.mktemp("phone")) as made:
            yield made
        return
    reason = why_no_genuine_phone()
    if reason:
        pytest.skip(reason)
    with genuine_phone() as made:
        yield made


def test_every_script_is_recorded() -> None:
    assert [case["script"] for case in RECORDED] == SCRIPTS


@pytest.mark.parametrize("case", RECORDED, ids=[case["script"][:60] for case in RECORDED])
def test_behaves_as_recorded(any_phone: Phone, case: dict[str, object]) -> None:
    assert behaviour(any_phone, str(case["script"])) == case


@pytest.fixture(scope="module")
def confined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Phone, Path, Path]]:
    """A virtual phone, its storage, and a folder of the host's beside it."""
    folder = tmp_path_factory.mktemp("confined")
    outside = folder / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret of the host")
    with virtual_phone(folder / "phone") as phone:
        yield phone, folder / "phone" / "storage", outside


def sh(phone: Phone, script: str, stdin: bytes = b"") -> Completed:
    return phone.run(["sh", "-c", script], doing="a script", timeout_s=30, stdin=[stdin] if stdin else (), check=False)


@pytest.mark.parametrize(
    "script",
    [
        "cat /etc/passwd",
        "cat ../../../../../../../../etc/passwd",
        "cd /data/local/tmp && ln -s /etc etc; cat etc/passwd",
        "cd /data/local/tmp && ln -s ../../../../../../etc up; cat up/passwd",
        ". /etc/profile",
        "sh /etc/profile",
        "read x </etc/hostname && echo $x",
        "/bin/ls /",
        "/usr/bin/env",
        "find / -name passwd",
        "cat /proc/self/environ",
        "tar -c -f - /etc/passwd | tar -t",
        "cp /etc/passwd /data/local/tmp/p; cat /data/local/tmp/p",
    ],
)
def test_nothing_of_the_host_is_read(confined: tuple[Phone, Path, Path], script: str) -> None:
    done = sh(confined[0], script)
    assert b"root:" not in done.stdout + done.stderr
    assert b"/usr/bin" not in done.stdout
    assert done.stdout in (b"", b"etc/passwd\n") or b"passwd" not in done.stdout


@pytest.mark.parametrize(
    "script",
    [
        "echo x >{out}/new",
        "cd /data/local/tmp; ln -s {out} link; echo x >link/new",
        "cd /data/local/tmp; ln -s {out}/secret l; echo x >l",
        "cp /system/bin/sh {out}/new",
        "mkdir -p {out}/new",
        "rm -rf {out}",
        "rm -rf /",
        "mv /data/local/tmp {out}/moved",
        "dd if=/dev/zero of={out}/secret count=1",
        "sed -i s/secret/open/ {out}/secret",
        "touch {out}/new /new /system/new",
        "tee {out}/new </dev/null",
        "chmod 777 {out}",
        "truncate -s 0 {out}/secret",
        "kill -9 1",
        "kill -9 -1",
    ],
)
def test_nothing_of_the_host_is_changed(confined: tuple[Phone, Path, Path], script: str) -> None:
    phone, storage, outside = confined
    sh(phone, script.format(out=outside))
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert (outside / "secret").read_text() == "secret of the host"
    assert sh(phone, "echo alive").stdout == b"alive\n"
    assert not (storage / "new").exists()
    assert not (storage / "system/new").exists()


def archive(*members: tuple[str, bytes, str]) -> bytes:
    """A tar of (name, type, link target or content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(text)
                made.addfile(info, io.BytesIO(text.encode()))
            else:
                info.linkname = text
                made.addfile(info)
    return buffer.getvalue()


FILE, LINK, HARD = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    "members",
    [
        [("../escaped", FILE, "x")],
        [("../../../../escaped", FILE, "x")],
        [("/escaped", FILE, "x")],
        [("{out}/escaped", FILE, "x")],
        [("link", LINK, "{out}"), ("link/escaped", FILE, "x")],
        [("link", LINK, "../.."), ("link/escaped", FILE, "x")],
        [("link", LINK, "{out}/secret"), ("link", FILE, "x")],
        [("hard", HARD, "{out}/secret"), ("hard", FILE, "x")],
        [("hard", HARD, "../../../../../../../../etc/passwd")],
        [("a/../../escaped", FILE, "x")],
    ],
)
def test_an_archive_built_to_escape_does_not(
    confined: tuple[Phone, Path, Path], members: list[tuple[str, bytes, str]]
) -> None:
    phone, storage, outside = confined
    made = archive(*((name.format(out=outside), kind, text.format(out=outside)) for name, kind, text in members))
    sh(phone, f"cd {TMP} && rm -rf in && mkdir in && cd in && tar -x", made)
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert (outside / "secret").read_text() == "secret of the host"
    within = storage / TMP[1:] / "in"
    escaped = [path for path in storage.rglob("escaped") if not path.is_relative_to(within)]
    assert escaped == []


def test_a_job_outlives_its_session_and_ends_with_the_phone(tmp_path: Path) -> None:
    with virtual_phone(tmp_path / "phone") as phone:
        sh(phone, f"setsid sh -c 'echo $$ >{TMP}/pid; sleep 60' </dev/null >/dev/null 2>&1 &")
        done = sh(phone, f"for i in $(seq 50); do [ -s {TMP}/pid ] && break; sleep 0.1; done; kill -0 $(cat {TMP}/pid)")
        assert done.exit_code == 0
        assert sh(phone, f"kill $(cat {TMP}/pid)").exit_code == 0


def test_a_vendors_program_is_played_by_the_phones_own(tmp_path: Path) -> None:
    """A pushed ELF file runs as the phone's program of that name, and any other ELF file not at all."""
    with virtual_phone(tmp_path / "phone") as phone:
        push = f"cd {TMP} && cat >snpe-net-run && cp snpe-net-run other && chmod 755 *"
        assert sh(phone, push, b"\x7fELF\x02\x01\x01" + bytes(100)).exit_code == 0
        assert sh(phone, f"{TMP}/snpe-net-run --version").stdout.startswith(b"SNPE v")
        done = sh(phone, f"{TMP}/other --version")
        assert (done.exit_code, b"not executable: 64-bit ELF file" in done.stderr) == (126, True)
