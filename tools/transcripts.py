"""Runs every block of kind `console` in docs/, and writes the commands' current output below them.

    python -m tools.transcripts [PAGE...]         writes docs/with-a-phone.md and docs/without-a-phone.md

Run it at the repository's root. A page is one session: a separate folder, home and adb server, a virtual phone shown as
127.0.0.1:5555, and a local server instead of Qualcomm's (tests/sdk_server.py), whose release is shown as the newest
known one. A comment `<!-- scene: NAME -->` before a block prepares its environment. Shown is what stays on a terminal:
stdout, and the two lines of an error.
"""

import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from tests.sdk_server import VERSION, sdk_server
from tests.snippets import Shell, archive_for_virtual_phones, phone, sdk_for_virtual_phones, shell

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "docs/with-a-phone.md", ROOT / "docs/without-a-phone.md")
BLOCK = re.compile(
    r"(?:<!-- scene: (?P<scene>[\w -]+) -->\n)?^(?P<indent> *)```console\n(?P<text>.*?)^(?P=indent)```$",
    flags=re.MULTILINE | re.DOTALL,
)
HOME, SERIAL, RELEASE = "/home/you", "127.0.0.1:5555", "2.50.0.260828"
GET = "mbqa-bundle sdk get"
REFUSING = """#!/bin/sh
case " $* " in *" --use_dsp "*)
  echo 'DspTransport.createUnsignedPD unsigned PD or DSPRPC_GET_DSP_INFO not supported by DSP' >&2
  exit 1 ;;
esac
PATH=${PATH#*:} exec snpe-net-run "$@"
"""
"""A program that ends on the DSP as snpe-net-run did in https://github.com/qualcomm/qidk/issues/68."""


@dataclass
class Stage:
    """The environment of a page's session; `serial` is the phone that is shown as SERIAL. `sdk` is for bundles that a
    scene builds."""

    shell: Shell
    sdk: Path
    serial: str

    @property
    def port(self) -> str:
        return self.serial.partition(":")[2]

    def play(self, line: str) -> str:
        """Runs a line as the reader types it; returns what stays on the terminal."""
        typed = line.replace(GET, f"{GET} {VERSION}").replace(SERIAL.partition(":")[2], self.port)
        if found := re.fullmatch(r"export (\w+)=(\S+)", typed):
            self.shell.environment[found[1]] = found[2]
            return ""
        done = self.shell.run(typed)
        errors = [said for said in done.stderr.splitlines(keepends=True) if said.startswith(("error: ", "hint: "))]
        shown = "".join([done.stdout, *errors])
        shown = re.sub(r"/\S+/storage(?=/system/)", "", shown)  # the virtual phone's folder is a new one each time
        home = self.shell.environment["HOME"]
        for ours, readers in ((home, HOME), (VERSION, RELEASE), (self.serial, SERIAL), (f"_{self.port}", "_5555")):
            shown = shown.replace(ours, readers)
        return "".join(f"{said.rstrip()}\n" for said in shown.splitlines() if said.strip())


@contextmanager
def stage() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="mb", dir="/tmp") as name, ExitStack() as stack:
        folder = Path(name)
        made = stack.enter_context(shell(folder))
        made.environment["COLUMNS"] = "120"
        server = stack.enter_context(sdk_server(archive_for_virtual_phones(folder)))
        made.environment |= {
            "MBQA_SDK_MIRROR": server.mirror,
            "MBQA_SDK_CACHE": f"{folder}/home/.cache/mbqa-bundle/sdk",
        }
        on = Stage(made, sdk_for_virtual_phones(folder), stack.enter_context(phone(folder / "phone")))
        made.run(f"adb connect {on.serial}")
        yield on


@contextmanager
def bundle_kept(on: Stage) -> Iterator[Path]:
    """Provides the reader's bundle, and restores it afterwards."""
    bundle = on.shell.folder / "bundle"
    kept = bundle.with_name("kept")
    shutil.copytree(bundle, kept)
    yield bundle
    shutil.rmtree(bundle)
    kept.rename(bundle)


@contextmanager
def other_phone(on: Stage, *faults: str) -> Iterator[None]:
    """Replaces the attached and shown phone by another one."""
    before = on.serial
    on.shell.run(f"adb disconnect {before}")
    with tempfile.TemporaryDirectory(prefix="mb") as folder, phone(Path(folder), *faults) as on.serial:
        on.shell.run(f"adb connect {on.serial}")
        with bundle_kept(on):
            yield
        on.shell.run(f"adb disconnect {on.serial}")
    on.serial = before
    on.shell.run(f"adb connect {before}")


@contextmanager
def full(on: Stage) -> Iterator[None]:
    with other_phone(on, "disk:1000000"):
        yield


@contextmanager
def unauthorized(on: Stage) -> Iterator[None]:
    with other_phone(on, "unauthorized"):
        yield


@contextmanager
def no_unsigned_pd(on: Stage) -> Iterator[None]:
    """Replaces the bundle's snpe-net-run by one that the DSP refuses."""
    program = on.sdk / "bin/aarch64-android/snpe-net-run"
    own = program.read_bytes()
    with bundle_kept(on):
        program.write_text(REFUSING, encoding="utf-8")
        with redirect_stdout(StringIO()):
            on.shell.build("--sdk", str(on.sdk), "--soc", "SM8650", "--limit", "1")
        program.write_bytes(own)
        yield


@contextmanager
def own_phone(on: Stage) -> Iterator[None]:
    """Frees the port for the reader's phone: no phone is attached from here on."""
    on.shell.run(f"adb disconnect {on.serial}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        on.serial = f"127.0.0.1:{probe.getsockname()[1]}"
    yield


SCENES = {"full": full, "unauthorized": unauthorized, "no unsigned PD": no_unsigned_pd, "own phone": own_phone}


def played(text: str) -> str:
    """Returns the page with the current output of its commands."""
    with stage() as on:
        return BLOCK.sub(lambda block: _played(block, on), text)


def _played(block: "re.Match[str]", on: Stage) -> str:
    scene: Callable[[Stage], object] | None = SCENES[block["scene"]] if block["scene"] else None
    with ExitStack() as stack:
        if scene is not None:
            stack.enter_context(scene(on))  # type: ignore[arg-type]
        lines = [line.strip() for line in block["text"].splitlines() if line.strip().startswith("$ ")]
        pieces = [f"{line}\n{on.play(line.removeprefix('$ '))}" for line in lines]
    indent = block["indent"]
    inside = "".join(f"{indent}{line}\n" for piece in pieces for line in piece.splitlines())
    return block[0].replace(block["text"], inside)


def main() -> None:
    for page in map(Path, sys.argv[1:]) if sys.argv[1:] else PAGES:
        page.write_text(played(page.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
