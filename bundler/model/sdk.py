"""What a phone needs of Qualcomm's SDK: snpe-net-run, its libraries, and the DSP's of the phone's Hexagon version.

Both layouts are known: `aarch64-android` with `hexagon-vNN/unsigned` (2.11 and later), `aarch64-android-clang*` with
`dsp` (before). Checked against a folder that the tests make, not against a real SDK.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from bundler.errors import SdkIncomplete
from bundler.layout import NET_RUN
from bundler.soc import FIRST_HTP, Soc

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


def _find(sdk: Path, patterns: tuple[str, ...]) -> Path:
    found = [path for pattern in patterns for path in sorted(sdk.glob(pattern)) if path.is_file()]
    if not found:
        raise SdkIncomplete(sdk, patterns[0])
    return found[0]
