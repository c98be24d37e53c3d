"""Detects Qualcomm's SDK in a folder, and the parts of it that a phone needs. model/vendor.py runs its host tools.

Knows both layouts: `aarch64-android` with `hexagon-vNN/unsigned` (2.11 and later), `aarch64-android-clang*` with `dsp`
(earlier). Based on SNPE's documents (docs/sdk.md), and tested on folders that the tests make, not on a real SDK.
"""

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.engines import ENGINES, Engine, hexagons_in
from bundler.errors import NotAnSdk, SdkIncomplete, SdkTooOld
from bundler.soc import FIRST_HTP, Soc

VARIABLES = ("SNPE_ROOT", "QAIRT_SDK_ROOT", "QNN_SDK_ROOT")
HOST = "x86_64-linux-clang"
CONVERTERS = ("snpe-onnx-to-dlc", "qairt-converter")
STATIC_LIBCXX = (2, 21)  # from this version on, libSNPE.so includes its C++ library (revision history 2.21.0)
LAST_CLANG_LAYOUT = (2, 10)
UNKNOWN_RELEASE = (2, 25)  # the release assumed for the present layout if the version is unknown
SNPE, QNN = ENGINES["snpe"], ENGINES["qnn"]
SDK_YAML = re.compile(r"^\s*[\"']?([\w .-]+?)[\"']?\s*:\s*[\"']?v?(\d+\.\d+\.\d+(?:\.\d+)?)\b", re.MULTILINE)
SDK_KEYS = re.compile(r"^version$|sdk|product|qairt|snpe|qnn", re.IGNORECASE)
FOLDER_NAME = re.compile(r"(?:^|[-_v])(\d+\.\d+\.\d+(?:\.\d+)?)$")


@dataclass(frozen=True)
class Sdk:
    """An SDK on this machine.

    version: such as 2.25.0.240728, None if unknown; layout: the folder in bin/ and lib/ with the phone's parts, None in
    an SDK without them; hexagons: the versions for which it has both the stub and the skel.
    """

    root: Path
    version: str | None
    layout: str | None
    hexagons: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"SDK {self.version}" if self.version else f"SDK {self.root}"

    @property
    def release(self) -> tuple[int, int]:
        """Returns the first two numbers of the version, or an estimate from the layout if it is unknown."""
        if self.version is None:
            return LAST_CLANG_LAYOUT if self.layout and "clang" in self.layout else UNKNOWN_RELEASE
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)

    def tool(self, name: str) -> Path | None:
        """Returns the path of a host program, or None if the SDK lacks it."""
        path = self.root / "bin" / HOST / name
        return path if path.is_file() else None


def sdk_from_environment(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Returns the SDK folder from the vendor's own environment variables, if any."""
    return next((Path(environment[name]) for name in VARIABLES if environment.get(name)), None)


def open_sdk(root: Path) -> Sdk:
    """Opens the SDK in this folder.

    Raises:
        NotAnSdk: there is none, or one for another host; SdkTooOld: it is SNPE 1.
    """
    root = root.expanduser().absolute()
    if not root.is_dir():
        raise NotAnSdk(root, "there is no such folder")
    layout = _layout(root)
    if layout is None and not any((root / "bin" / HOST / name).is_file() for name in CONVERTERS):
        raise _refusal(root)
    sdk = Sdk(root, _version(root), layout, _hexagons(root, layout))
    if sdk.release < (2, 0):
        raise SdkTooOld(sdk.name, "is SNPE 1, whose DLCs and tools differ", "Take SNPE 2 or QAIRT.")
    return sdk


def device_parts(sdk: Sdk, soc: Soc | None = None) -> dict[str, Path]:
    """Returns SDK files by path in the bundle's device folder: SNPE's parts, and QNN's if all of them exist.

    soc: the phone's chip; None: all chips that the SDK knows. In that case deploy leaves out the parts that are not the
    phone's (`engines.hexagon_of_part`). A chip without HTP gets what the CPU and the GPU need.

    Raises:
        NotAnSdk: no SDK, or none for Android; SdkIncomplete: it lacks files; SdkTooOld: it lacks the chip's Hexagon
        version.
    """
    if sdk.layout is None:
        raise NotAnSdk(sdk.root, "this SDK has no Android part (bin/aarch64-android*/snpe-net-run)")
    hexagons = _wanted(sdk, soc)
    parts = _parts(sdk, SNPE, hexagons)
    if sdk.version is not None and sdk.release < STATIC_LIBCXX:
        parts["lib/libc++_shared.so"] = _file(sdk, f"lib/{sdk.layout}/libc++_shared.so")
    try:
        return parts | _parts(sdk, QNN, hexagons)
    except SdkIncomplete:  # an SDK with SNPE only, or one whose qnn-net-run takes no DLC
        return parts


def _parts(sdk: Sdk, engine: Engine, hexagons: Collection[int]) -> dict[str, Path]:
    """Returns an engine's files for a phone. Raises: SdkIncomplete"""
    libraries = f"lib/{sdk.layout}"
    parts = {engine.path: _file(sdk, f"bin/{sdk.layout}/{engine.program}")}
    parts |= {f"lib/{name}": _file(sdk, f"{libraries}/{name}") for name in engine.needed}
    parts |= {f"lib/{name}": path for name in engine.wished if (path := sdk.root / libraries / name).is_file()}
    for hexagon in hexagons:
        stub = engine.dsp_part(hexagon, "Stub")
        parts[f"lib/{stub}"] = _file(sdk, f"{libraries}/{stub}")
        parts[f"dsp/{engine.dsp_part(hexagon, 'Skel')}"] = _file(sdk, *_skels(engine, hexagon))
    return parts


def _wanted(sdk: Sdk, soc: Soc | None) -> list[int]:
    """Returns the Hexagon versions with HTP, of the chip or of the SDK. Raises: SdkTooOld"""
    wanted = [hexagon for hexagon in (sdk.hexagons if soc is None else (soc.hexagon,)) if hexagon >= FIRST_HTP]
    if soc is not None and not set(wanted) <= set(sdk.hexagons):
        has = ", ".join(f"v{version}" for version in sdk.hexagons) or "none"
        lacks = f"has no libraries for Hexagon v{soc.hexagon} ({soc.name}); it has {has}"
        raise SdkTooOld(sdk.name, lacks, "Take a newer SDK, such as the one that names this chip as supported.")
    return wanted


def _layout(root: Path) -> str | None:
    """Returns the phone's folder: the one with the present name, else that of the newest compiler."""
    found = sorted(path.parent.name for path in root.glob("bin/aarch64-android*/snpe-net-run") if path.is_file())
    return None if not found else found[0] if found[0] == "aarch64-android" else found[-1]


def _hexagons(root: Path, layout: str | None) -> tuple[int, ...]:
    stubs = [path.name for path in root.glob(f"lib/{layout}/libSnpe*Stub.so")] if layout else []
    return tuple(sorted(v for v in hexagons_in(stubs) if any((root / skel).is_file() for skel in _skels(SNPE, v))))


def _skels(engine: Engine, hexagon: int) -> tuple[str, str]:
    """Returns the possible places of the DSP's library: since 2.11, and before."""
    name = engine.dsp_part(hexagon, "Skel")
    return f"lib/hexagon-v{hexagon}/unsigned/{name}", f"lib/dsp/{name}"


def _version(root: Path) -> str | None:
    """Returns the version from sdk.yaml (2.16 and later; it also lists other software), else from the folder's name."""
    described = root / "sdk.yaml"
    text = described.read_text(encoding="utf-8", errors="replace") if described.is_file() else ""
    stated: list[str] = [version for key, version in SDK_YAML.findall(text) if SDK_KEYS.search(key)]
    if stated:
        return max(stated, key=lambda version: version.count("."))
    named = FOLDER_NAME.search(root.name) or FOLDER_NAME.search(root.resolve().name)
    return str(named[1]) if named else None


def _refusal(root: Path) -> NotAnSdk:
    """Returns an error that says what the folder is instead of an SDK for Linux and Android."""
    inside = [path for path in sorted(root.iterdir()) if path.is_dir() and _layout(path)]
    if inside:
        return NotAnSdk(root, "is not an SDK, but has SDKs in it", f"Give one of them, such as {inside[-1]}.")
    hosts = sorted(path.name for path in root.glob("bin/*") if path.is_dir())
    if list(root.glob("bin/*/snpe-net-run*")) or any(list(root.glob(f"bin/*/{name}*")) for name in CONVERTERS):
        return NotAnSdk(root, f"is an SDK for other hosts: it has programs for {', '.join(hosts)}")
    if list(root.glob("bin/*/qnn-net-run*")):
        return NotAnSdk(root, "has QNN's programs only, no snpe-net-run")
    return NotAnSdk(
        root, f"is not an SNPE or QAIRT SDK: it has no bin/aarch64-android*/snpe-net-run and no bin/{HOST}/"
    )


def _file(sdk: Sdk, *places: str) -> Path:
    found = next((sdk.root / place for place in places if (sdk.root / place).is_file()), None)
    if found is None:
        raise SdkIncomplete(sdk.root, places[0])
    return found
