"""The run on the phone: the bundle's own script, its log, how far it is, and its outputs' way back."""

import re
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from bundler import layout
from bundler.device.phone import Phone
from bundler.errors import OutputsInvalid, PhoneFull, PhoneLost, RunFailed
from bundler.types import Progress, Runtime

MARK = re.compile(rb"Processing DNN input")  # snpe-net-run says so at each inference
LIST_S = 120.0
PULL_S = 1800.0
TAR_OVERHEAD = 4096  # bytes of tar headers a file, at most
SHA256_LINE = re.compile(r"([0-9a-f]{64})  \./(.+)")


def run_on_phone(
    phone: Phone,
    remote: PurePosixPath,
    runtime: Runtime,
    *,
    windows: int,
    timeout_s: float,
    log: Path,
    progress: Progress,
) -> None:
    """Runs the bundle in `remote`; everything it says goes to the file `log`.

    Raises:
        RunFailed: with snpe-net-run's own last words; PhoneLost, PhoneTooSlow
    """
    stage = f"running on the {runtime.upper()}"
    progress(stage, 0, windows)
    with log.open("wb") as file:
        tail = b""
        done_windows = 0

        def hear(data: bytes) -> None:
            nonlocal tail, done_windows
            file.write(data)
            *lines, tail = (tail + data).split(b"\n")
            begun = sum(1 for line in lines if MARK.match(line))
            if begun:
                done_windows += begun
                progress(stage, max(done_windows - 1, 0), windows)

        command = ["sh", str(remote / layout.RUNNER), runtime]
        done = phone.run(command, doing=f"the run on the {runtime}", timeout_s=timeout_s, on_stdout=hear, check=False)
        file.write(done.stderr)
    if done.exit_code != 0:
        said = log.read_bytes().decode(errors="replace").strip().splitlines()
        if b"No space left on device" in done.stderr:
            raise PhoneFull(phone.serial, windows * 4096)
        raise RunFailed(phone.serial, done.exit_code, said, log)
    progress(stage, windows, windows)


def list_outputs(phone: Phone, remote: PurePosixPath, runtime: Runtime) -> dict[str, str]:
    """The run's raw outputs on the phone: path below the output folder -> SHA-256 made on the phone."""
    script = 'cd "$1" && exec find . -type f -name "*.raw" -exec sha256sum {} +'
    folder = str(remote / layout.output_folder(runtime))
    done = phone.run(["sh", "-c", script, "sh", folder], doing="listing the outputs", timeout_s=LIST_S, check=False)
    if done.exit_code != 0:
        raise OutputsInvalid(f"phone {phone.serial}: no outputs of a run on the {runtime} in {folder}: {done.message}")
    matches = (SHA256_LINE.fullmatch(line) for line in done.stdout.decode(errors="replace").splitlines())
    return {match[2]: match[1] for match in matches if match}


def pull_outputs(
    phone: Phone, remote: PurePosixPath, runtime: Runtime, wanted: Mapping[str, Path], size_bytes: int, archive: Path
) -> None:
    """Pulls each wanted output (path below the output folder) to its place on the host, through the file `archive`.

    Nothing else that the phone's archive may hold is written, and no path of it is used.

    Raises:
        OutputsInvalid: an output is not of `size_bytes`, or more came than was announced; PhoneLost, PhoneTooSlow
    """
    room = (len(wanted) + 16) * (size_bytes + TAR_OVERHEAD) + (64 << 20)  # the diagnostic log comes along
    with archive.open("wb") as file:

        def keep(data: bytes) -> None:
            if file.tell() + len(data) > room:
                raise OutputsInvalid(f"phone {phone.serial}: more data than the announced outputs")
            file.write(data)

        command = ["tar", "-c", "-f", "-", "-C", str(remote / layout.output_folder(runtime)), "."]
        phone.run(command, doing="pulling the outputs", timeout_s=PULL_S, on_stdout=keep)
    try:
        with tarfile.open(archive, "r|") as entries:
            for entry in entries:
                place = wanted.get(str(PurePosixPath(entry.name)))
                if place is None or not entry.isreg():
                    continue
                if entry.size != size_bytes:
                    raise OutputsInvalid(f"{place}: has {entry.size} bytes, not {size_bytes}")
                content = entries.extractfile(entry)
                assert content is not None  # a regular file has content
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content.read())
    except tarfile.TarError as error:
        raise PhoneLost(phone.serial, "pulling the outputs", f"the archive is broken: {error}") from error
