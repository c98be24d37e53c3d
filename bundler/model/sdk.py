"""Qualcomm's SDK: what a phone needs of it (snpe-net-run, its libraries, the DSP's of the chip), and its converter.

Both layouts are known: `aarch64-android` with `hexagon-vNN/unsigned` (2.11 and later), `aarch64-android-clang*` with
`dsp` (before). Checked against a folder that the tests make, not against a real SDK.
"""

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bundler.errors import ModelInvalid, SdkIncomplete
from bundler.layout import NET_RUN
from bundler.model.sources import ModelSource
from bundler.soc import FIRST_HTP, Soc

LIMIT_S = 1800.0
VARIABLES = ("SNPE_ROOT", "QAIRT_SDK_ROOT", "QNN_SDK_ROOT")


def sdk_from_environment(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The SDK that the vendor's own variables name, if any."""
    return next((Path(environment[name]) for name in VARIABLES if environment.get(name)), None)


def device_parts(sdk: Path, soc: Soc) -> dict[str, Path]:
    """Path in the bundle's device folder -> file of the SDK, for a phone with this chip.

    Raises:
        SdkIncomplete: the folder is no SDK, or has no libraries for the chip.
    """
    parts = {
        NET_RUN: _find(sdk, ("bin/aarch64-android*/snpe-net-run",)),
        "lib/libSNPE.so": _find(sdk, ("lib/aarch64-android*/libSNPE.so",)),
    }
    if soc.hexagon >= FIRST_HTP:
        stub, skel = (f"libSnpeHtpV{soc.hexagon}{part}.so" for part in ("Stub", "Skel"))
        parts[f"lib/{stub}"] = _find(sdk, (f"lib/aarch64-android*/{stub}",))
        parts[f"dsp/{skel}"] = _find(sdk, (f"lib/hexagon-v{soc.hexagon}/unsigned/{skel}", f"lib/dsp/{skel}"))
    for optional in ("libSnpeHtpPrepare.so", "libc++_shared.so"):  # online preparation; releases before 2.21
        found = sorted(sdk.glob(f"lib/aarch64-android*/{optional}"))
        if found:
            parts[f"lib/{optional}"] = found[0]
    return parts


def convert_by_sdk(sdk: Path, source: ModelSource, dlc: Path) -> None:
    """Writes `dlc` with the SDK's snpe-onnx-to-dlc.

    Raises:
        SdkIncomplete: the SDK has no such tool; ModelInvalid: the tool fails, with its last words.
    """
    command = [str(_find(sdk, ("bin/x86_64*/snpe-onnx-to-dlc",))), "-i", str(source.path), "-o", str(dlc)]
    for spec in source.inputs:
        command += ["-d", spec.name, ",".join(map(str, spec.shape))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelInvalid(source.path, f"the SDK's converter does not run: {error}", shlex.join(command)) from error
    if done.returncode != 0 or not dlc.is_file():
        last = ((done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ModelInvalid(source.path, f"the SDK's converter failed: {last}", f"To repeat it: {shlex.join(command)}")


def _find(sdk: Path, patterns: tuple[str, ...]) -> Path:
    found = [path for pattern in patterns for path in sorted(sdk.glob(pattern)) if path.is_file()]
    if not found:
        raise SdkIncomplete(sdk, patterns[0])
    return found[0]
