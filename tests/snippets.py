"""Runs shell blocks of README.md and docs/, with replacements for what tests do not have.

A comment before a block, `<!-- tested with: `THIS`: what instead; ... -->`, names every text of the block that a test
replaces. A test fails if it replaces any other text, or leaves one of them unchanged.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import adbutils

from bundler.cli import main
from bundler.device.server import private_adb_server, user_key
from bundler.soc import known_socs
from bundler.virtual.phones import start_phone, stop_phone
from tests.fake_sdk import HOST, make_sdk
from tests.sdk_server import write_archive

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<kind>sh|console)\n(?P<text>.*?)^(?P=indent)```$", flags=re.MULTILINE | re.DOTALL
)
NOTE = re.compile(r"<!-- tested with: ((?:(?!-->).)*) -->(?:\s*<!-- [\w ]+ -->)?\s*$", flags=re.DOTALL)
LIMIT_S = 600
ARM_PROGRAM = b"\x7fELF\2\1\1" + bytes(11) + b"\xb7\0"
"""The beginning of a program for 64-bit Arm, in whose place the virtual phone runs its own snpe-net-run."""

QUICK = "run-time:20"
"""A virtual phone with this fault takes a fixed time an inference, and computes nothing."""


@dataclass(frozen=True)
class Block:
    """A block of shell under its heading; `replaced`: the texts that its comment names."""

    heading: str
    kind: str
    lines: tuple[str, ...]
    replaced: tuple[str, ...]


def blocks(page: Path) -> list[Block]:
    """Returns a page's blocks of shell in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        before = text[: match.start()]
        note = NOTE.search(before)
        heading = re.findall(r"^#+ +(.+?) *$", before, flags=re.MULTILINE)[-1]
        names = re.findall(r"`([^`]+)`:", note[1]) if note else []
        lines = match["text"].removesuffix("\n").split("\n")
        found.append(Block(heading, match["kind"], tuple(line.strip() for line in lines), tuple(names)))
    return found


def commands(block: Block, stand_ins: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yields (the line as a reader sees it, the line as the test runs it) of each command of a block of kind sh."""
    assert set(block.replaced) == set(stand_ins), f"{block.heading}: the comment and the test differ"
    for name in block.replaced:
        assert any(re.search(as_a_word(name), line) for line in block.lines), f"{block.heading}: no {name} in the block"
    for line in filter(None, block.lines):
        ours = line
        for name, instead in stand_ins.items():
            ours = instead.join(re.split(as_a_word(name), ours))
        yield line, ours


def as_a_word(name: str) -> str:
    """Returns a pattern for a name that is not part of a longer word."""
    before = r"(?<!\w)" if name[0].isalnum() else ""
    after = r"(?!\w)" if name[-1].isalnum() else ""
    return before + re.escape(name) + after


@dataclass
class Shell:
    """A folder with a separate home and adb server, and with mbqa-bundle and adb on the PATH."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, line: str) -> "subprocess.CompletedProcess[str]":
        """Runs a line with `sh`."""
        return subprocess.run(
            ["sh", "-c", line], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            timeout=LIMIT_S, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def build(self, *arguments: str) -> None:
        """Builds a bundle in this process, which is faster."""
        assert main(["build", "--out", str(self.folder / "bundle"), *arguments]) == 0


@contextmanager
def shell(folder: Path) -> Iterator[Shell]:
    home, programs = folder / "home", folder / "bin"
    for made in (home, programs, folder / "here"):
        made.mkdir()
    (programs / "adb").symlink_to(adbutils.adb_path())
    left = ("SNPE_ROOT", "QAIRT_SDK_ROOT", "QNN_SDK_ROOT", "ANDROID_SERIAL", "ADB_SERVER_SOCKET", "XDG_STATE_HOME")
    with private_adb_server() as server:
        environment = {name: value for name, value in os.environ.items() if name not in left} | {
            "HOME": str(home),
            "TMPDIR": str(home),
            "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "ANDROID_ADB_SERVER_PORT": str(server.port),
            "ADB_VENDOR_KEYS": str(user_key()),
            "COLUMNS": "110",
            "HF_ENDPOINT": "http://127.0.0.1:9",
        }
        yield Shell(folder / "here", environment)


@contextmanager
def phone(folder: Path, *faults: str) -> Iterator[str]:
    """Runs a virtual phone and provides its serial."""
    started = start_phone(known_socs()["SM8650"], 0, folder, faults=faults)
    try:
        yield started.serial
    finally:
        stop_phone(started)


def sdk_for_virtual_phones(parent: Path) -> Path:
    """Makes an SDK folder without host tools, whose snpe-net-run is the virtual phone's."""
    root = make_sdk(parent, "2.35")
    shutil.rmtree(root / "bin" / HOST)
    (root / "bin/aarch64-android/snpe-net-run").write_bytes(ARM_PROGRAM)
    return root


def archive_for_virtual_phones(parent: Path, programs: Mapping[str, bytes] | None = None) -> Path:
    """Makes an SDK's archive whose Android programs are the virtual phone's, or the given ones."""
    given = programs or dict.fromkeys(("snpe-net-run", "qnn-net-run"), ARM_PROGRAM)
    contents = {f"bin/aarch64-android/{name}": content for name, content in given.items()}
    return write_archive(parent / "sdk.zip", contents)
