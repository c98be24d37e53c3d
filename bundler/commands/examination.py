"""Checks what is available and what is missing on this machine; phone_examination.py checks the phones."""

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass

from bundler.device.phone import AdbServer
from bundler.dlc.qnn import library_folder
from bundler.errors import BundlerError
from bundler.model.sdk import device_parts, open_sdk
from bundler.platforms import this_platform
from bundler.resources import DEMO_MODEL, TEMPLATES
from bundler.sdk.cache import default_sdk

PACKAGES = ("adbutils", "jinja2", "numpy", "onnx", "onnxruntime", "rich", "tokenizers", "transformers", "typer")
OPTIONAL = {"torch": "Needed only to export models from a hub: pip install 'mbqa-bundle[export]'."}


@dataclass(frozen=True)
class Finding:
    """The result of one check. `needed` is False if much works without it."""

    what: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = True


def examine(server: AdbServer) -> list[Finding]:
    """Checks everything on this machine; missing things are findings, never errors."""
    return [_computer(), *_packages(), _libraries(), _sdk(), _shipped(), _adb(server)]


def _computer() -> Finding:
    here = this_platform()
    if here.has_simulator:
        return Finding("computer", True, str(here))
    limits = "builds no bundles; deploy, fetch-answers and evaluate work here"
    if not here.runs_virtual_phones:
        limits = f"runs no virtual phone, {limits}"
    return Finding("computer", False, f"{here}: {limits}", "To build, use Linux on x86-64.", needed=False)


def _packages() -> Iterator[Finding]:
    for name in (*PACKAGES, *OPTIONAL):
        needed = name not in OPTIONAL
        try:
            yield Finding(f"package {name}", True, importlib.metadata.version(name), needed=needed)
        except importlib.metadata.PackageNotFoundError:
            remedy = OPTIONAL.get(name, "Install mbqa-bundle again with pip.")
            yield Finding(f"package {name}", False, "not installed", remedy, needed)


def _libraries() -> Finding:
    what = "Qualcomm's libraries (DLC writer, DSP simulator)"
    try:
        return Finding(what, True, f"{library_folder()}, {importlib.metadata.version('onnxruntime-qnn')}")
    except BundlerError as error:
        return Finding(what, False, str(error), error.hint, needed=this_platform().has_simulator)


def _sdk() -> Finding:
    what = "Qualcomm's SDK (for a real phone)"
    try:
        sdk = default_sdk()
        if sdk is None:
            lacks = "none of SNPE_ROOT, QAIRT_SDK_ROOT, QNN_SDK_ROOT is set, and none was fetched"
            return Finding(what, False, lacks, "Fetch what a phone needs: `mbqa-bundle sdk get`.", needed=False)
        found = open_sdk(sdk)
        device_parts(found)
    except BundlerError as error:
        return Finding(what, False, str(error), error.hint, needed=False)
    versions = ", ".join(f"v{hexagon}" for hexagon in found.hexagons)
    return Finding(what, True, f"{found.name} in {sdk}, libraries for Hexagon {versions}", needed=False)


def sdk_release() -> str:
    """Returns the release of the SDK that build would use; empty if there is none, or if it is unknown."""
    try:
        sdk = default_sdk()
        return (open_sdk(sdk).version or "") if sdk is not None else ""
    except BundlerError:
        return ""  # which `examine` reports


def _shipped() -> Finding:
    ok = DEMO_MODEL.is_file() and TEMPLATES.is_dir()
    return Finding("demo model and templates", ok, str(DEMO_MODEL.parent), "" if ok else "Install mbqa-bundle again.")


def _adb(server: AdbServer) -> Finding:
    try:
        server.attached()
    except BundlerError as error:
        return Finding("adb server", False, str(error), error.hint)
    return Finding("adb server", True, f"{server.host}:{server.port}")
