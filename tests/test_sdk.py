"""The SDK's parts, from folders laid out as the old and the new releases are."""

from dataclasses import replace
from pathlib import Path

import pytest

from bundler import layout
from bundler.build import BuildRequest, build_bundle
from bundler.errors import ModelInvalid, SdkIncomplete
from bundler.model.sdk import device_parts, sdk_from_environment
from bundler.soc import known_socs
from tests.conftest import quiet

NEW = (
    "bin/aarch64-android/snpe-net-run",
    "lib/aarch64-android/libSNPE.so",
    "lib/aarch64-android/libSnpeHtpPrepare.so",
    "lib/aarch64-android/libSnpeHtpV73Stub.so",
    "lib/aarch64-android/libSnpeHtpV75Stub.so",
    "lib/hexagon-v73/unsigned/libSnpeHtpV73Skel.so",
    "lib/hexagon-v75/unsigned/libSnpeHtpV75Skel.so",
)
OLD = (
    "bin/aarch64-android-clang8.0/snpe-net-run",
    "lib/aarch64-android-clang8.0/libSNPE.so",
    "lib/aarch64-android-clang8.0/libc++_shared.so",
    "lib/aarch64-android-clang8.0/libSnpeHtpV69Stub.so",
    "lib/dsp/libSnpeHtpV69Skel.so",
)


def sdk(folder: Path, files: tuple[str, ...]) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_new_layout_brings_the_chips_own_libraries(tmp_path: Path) -> None:
    parts = device_parts(sdk(tmp_path, NEW), known_socs()["SM8650"])
    assert {name: path.relative_to(tmp_path).as_posix() for name, path in parts.items()} == {
        "bin/snpe-net-run": "bin/aarch64-android/snpe-net-run",
        "lib/libSNPE.so": "lib/aarch64-android/libSNPE.so",
        "lib/libSnpeHtpPrepare.so": "lib/aarch64-android/libSnpeHtpPrepare.so",
        "lib/libSnpeHtpV75Stub.so": "lib/aarch64-android/libSnpeHtpV75Stub.so",
        "dsp/libSnpeHtpV75Skel.so": "lib/hexagon-v75/unsigned/libSnpeHtpV75Skel.so",
    }


def test_old_layout(tmp_path: Path) -> None:
    parts = device_parts(sdk(tmp_path, OLD), known_socs()["SM8450"])
    assert set(parts) == {
        "bin/snpe-net-run",
        "lib/libSNPE.so",
        "lib/libc++_shared.so",
        "lib/libSnpeHtpV69Stub.so",
        "dsp/libSnpeHtpV69Skel.so",
    }


def test_a_chip_without_htp_needs_no_dsp_libraries(tmp_path: Path) -> None:
    assert not any(name.startswith("dsp/") for name in device_parts(sdk(tmp_path, NEW), known_socs()["SM8250"]))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SdkIncomplete, match="snpe-net-run"):
        device_parts(tmp_path, known_socs()["SM8650"])
    with pytest.raises(SdkIncomplete, match=r"libSnpeHtpV79Stub\.so"):
        device_parts(sdk(tmp_path, NEW), known_socs()["SM8750"])


def test_the_vendors_variables_are_read() -> None:
    assert sdk_from_environment({}) is None
    assert sdk_from_environment({"QNN_SDK_ROOT": "/q", "SNPE_ROOT": "/s"}) == Path("/s")


CONVERTER = """#!/bin/sh
echo "$@" >arguments.txt
[ "$1" = -i ] && [ -s "$2" ] && [ "$3" = -o ] || { echo "ERROR - wrong arguments" >&2; exit 1; }
[ -z "$FAIL" ] || { echo "ERROR - Conversion failed" >&2; exit 1; }
echo dlc >"$4"
"""


def test_elsewhere_the_sdks_converter_is_used(
    request_for: BuildRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.chdir(tmp_path)
    asked = replace(request_for, sdk=sdk(tmp_path / "sdk", NEW))
    with pytest.raises(SdkIncomplete, match="snpe-onnx-to-dlc"):
        build_bundle(asked, tmp_path / "bundle", quiet)
    tool = tmp_path / "sdk/bin/x86_64-linux-clang/snpe-onnx-to-dlc"
    tool.parent.mkdir()
    tool.write_text(CONVERTER)
    tool.chmod(0o755)
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(ModelInvalid, match="converter failed: ERROR - Conversion failed"):
        build_bundle(asked, tmp_path / "bundle", quiet)
    assert not (tmp_path / "bundle").exists()
    monkeypatch.setenv("FAIL", "")
    made = build_bundle(asked, tmp_path / "bundle", quiet)
    assert (made.path / "device/model.dlc").read_text() == "dlc\n"
    assert "-d input_ids 1,384 -d attention_mask 1,384 -d token_type_ids 1,384" in Path("arguments.txt").read_text()


def test_a_bundle_brings_them_along(request_for: BuildRequest, tmp_path: Path) -> None:
    made = build_bundle(replace(request_for, sdk=sdk(tmp_path / "sdk", NEW)), tmp_path / "bundle", quiet)
    assert layout.NET_RUN in made.device_files
    assert (made.path / layout.DEVICE / "dsp/libSnpeHtpV75Skel.so").read_text() == NEW[-1]
