"""Tests the device scripts with busybox's sh and tools, on a virtual phone that has these."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.bundle import Bundle
from bundler.device.phone import Phone
from bundler.device.probe import probe
from bundler.device.store import Store
from tests.deploying import deploy, fetch, quiet, sh
from tests.phones import virtual_phone

BUSYBOX = shutil.which("busybox")
pytestmark = pytest.mark.skipif(BUSYBOX is None, reason="busybox is not installed (apt-get install busybox)")


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    folder = tmp_path_factory.mktemp("phone")
    listed = subprocess.run(["busybox", "--list"], capture_output=True, text=True, timeout=30, check=True).stdout
    applets = set(listed.split())
    with virtual_phone(folder, faults=["run-time:0"]) as made:
        programs = folder / "storage/system/bin"
        for tool in programs.iterdir():
            if tool.is_symlink():
                tool.unlink()
                if tool.name in applets:
                    tool.symlink_to(Path(BUSYBOX or "").resolve())
        yield made


def test_it_is_busybox(phone: Phone) -> None:
    assert "BusyBox" in sh(phone, "tar --help 2>&1; true")
    assert sh(phone, "sh --help 2>&1 | head -n 1; true").startswith("BusyBox")


def test_the_probe(phone: Phone) -> None:
    facts = probe(phone)
    assert (facts.soc_model, facts.runs_programs, facts.sha256sum, facts.gzip) == ("SM8650", True, True, True)
    assert facts.free_bytes


def test_a_run_from_push_to_clean(phone: Phone, bundle: Bundle) -> None:
    deploy(phone, bundle, chunk=2)
    first = fetch(phone, bundle).answers
    deploy(phone, bundle, chunk=2)
    assert fetch(phone, bundle).answers == first
    assert Store(phone, quiet).clean(everything=True) > 0
