"""Tests the detection of an SDK and its parts for the phone, in the folder layouts of old and new releases."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bundler import layout
from bundler.engines import ENGINES, hexagon_of_part, hexagons_in
from bundler.errors import NoConverter, NotAnSdk, SdkIncomplete, SdkTooOld, VendorToolFailed
from bundler.model.make import Recipe
from bundler.model.sdk import device_parts, open_sdk, sdk_from_environment
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.soc import known_socs
from tests.conftest import quiet
from tests.fake_sdk import HELP, RELEASES, make_sdk, write

SOCS = known_socs()


def relative(parts: dict[str, Path], root: Path) -> dict[str, str]:
    return {name: path.relative_to(root).as_posix() for name, path in parts.items()}


@pytest.mark.parametrize(
    ("release", "version", "hexagons"),
    [
        ("2.10", "2.10.0.4541", (66, 68, 69, 73)),
        ("2.14", "2.14.2.230905", (68, 69, 73)),
        ("2.25", "2.25.0.240728", (66, 68, 69, 73, 75)),
        ("qairt", "2.40.0.251030", (69, 73, 75, 79)),
    ],
)
def test_what_a_folder_is(tmp_path: Path, release: str, version: str, hexagons: tuple[int, ...]) -> None:
    sdk = open_sdk(make_sdk(tmp_path, release))
    assert sdk.version == version
    assert sdk.release == tuple(map(int, version.split(".")[:2]))
    assert sdk.layout == RELEASES[release].layout
    assert sdk.hexagons == hexagons
    assert sdk.name == f"SDK {version}"


def test_where_nothing_tells_the_version_the_layout_does(tmp_path: Path) -> None:
    for release, suggested in (("2.10", (2, 10)), ("2.35", (2, 25))):
        root = make_sdk(tmp_path, release).rename(tmp_path / f"sdk-{release[-1]}")
        sdk = open_sdk(root)
        assert sdk.version is None
        assert sdk.release == suggested
        assert str(root) in sdk.name


def test_the_version_is_the_sdks_not_that_of_what_it_was_built_with(tmp_path: Path) -> None:
    root = make_sdk(tmp_path, "2.25")
    write(root / "sdk.yaml", "tensorflow: 2.10.1\nnumpy: 1.26.0\n")
    assert open_sdk(root).version is None
    write(root / "sdk.yaml", '"numpy": "1.26.0"\nproduct:\n  version: "v2.31.0.250130"\n')
    assert open_sdk(root).version == "2.31.0.250130"
    (root / "sdk.yaml").unlink()
    link = tmp_path / "current"
    root.rename(tmp_path / "2.29.0.241129")
    link.symlink_to(tmp_path / "2.29.0.241129")
    assert open_sdk(link).version == "2.29.0.241129"


def test_new_layout_brings_the_chips_own_libraries(tmp_path: Path) -> None:
    root = make_sdk(tmp_path, "2.25")
    parts = device_parts(open_sdk(root), SOCS["SM8650"])
    assert relative(parts, root) == {
        "bin/snpe-net-run": "bin/aarch64-android/snpe-net-run",
        "lib/libSNPE.so": "lib/aarch64-android/libSNPE.so",
        "lib/libSnpeHtpPrepare.so": "lib/aarch64-android/libSnpeHtpPrepare.so",
        "lib/libSnpeHtpV75Stub.so": "lib/aarch64-android/libSnpeHtpV75Stub.so",
        "dsp/libSnpeHtpV75Skel.so": "lib/hexagon-v75/unsigned/libSnpeHtpV75Skel.so",
    }


def test_old_layout(tmp_path: Path) -> None:
    root = make_sdk(tmp_path, "2.10")
    parts = device_parts(open_sdk(root), SOCS["SM8450"])
    assert relative(parts, root) == {
        "bin/snpe-net-run": "bin/aarch64-android-clang8.0/snpe-net-run",
        "lib/libSNPE.so": "lib/aarch64-android-clang8.0/libSNPE.so",
        "lib/libSnpeHtpPrepare.so": "lib/aarch64-android-clang8.0/libSnpeHtpPrepare.so",
        "lib/libc++_shared.so": "lib/aarch64-android-clang8.0/libc++_shared.so",
        "lib/libSnpeHtpV69Stub.so": "lib/aarch64-android-clang8.0/libSnpeHtpV69Stub.so",
        "dsp/libSnpeHtpV69Skel.so": "lib/dsp/libSnpeHtpV69Skel.so",
    }


def test_the_present_layout_wins_over_older_ones_beside_it(tmp_path: Path) -> None:
    root = make_sdk(tmp_path, "2.14")
    for compiler in ("6.0", "8.0"):
        write(root / f"bin/aarch64-android-clang{compiler}/snpe-net-run", "")
    assert open_sdk(root).layout == "aarch64-android"
    shutil.rmtree(root / "bin/aarch64-android")
    assert open_sdk(root).layout == "aarch64-android-clang8.0"


def test_for_any_phone_all_versions_come_along(tmp_path: Path) -> None:
    parts = device_parts(open_sdk(make_sdk(tmp_path, "2.25")))
    assert hexagons_in(parts) == {68, 69, 73, 75}  # not 66, which has no HTP
    own = {name for name in parts if hexagon_of_part(name) in (None, 75)}
    assert own == device_parts(open_sdk(tmp_path / "snpe"), SOCS["SM8650"]).keys()


@pytest.mark.parametrize(
    ("name", "hexagon"),
    [
        ("lib/libSnpeHtpV79Stub.so", 79),
        ("dsp/libSnpeHtpV73Skel.so", 73),
        ("libSnpeDspV66Skel.so", 66),
        ("lib/libSnpeHtpV73CalculatorStub.so", 73),
        ("lib/libSnpeHtpPrepare.so", None),
        ("lib/libSNPE.so", None),
        ("bin/snpe-net-run", None),
        ("lib/libSnpeHtpV73Stub.so.txt", None),
    ],
)
def test_the_name_of_a_library_tells_its_hexagon_version(name: str, hexagon: int | None) -> None:
    assert hexagon_of_part(name) == hexagon


def test_a_chip_without_htp_needs_no_dsp_libraries(tmp_path: Path) -> None:
    parts = device_parts(open_sdk(make_sdk(tmp_path, "2.25")), SOCS["SM8250"])
    assert not hexagons_in(parts)
    assert ENGINES["snpe"].path in parts


def test_libraries_for_a_newer_chip_need_a_newer_sdk(tmp_path: Path) -> None:
    sdk = open_sdk(make_sdk(tmp_path, "2.14"))
    has = r"it has v68, v69, v73$"
    with pytest.raises(SdkTooOld, match=rf"^SDK 2\.14\.2\.230905 has no .* Hexagon v79 \(SM8750\); {has}") as caught:
        device_parts(sdk, SOCS["SM8750"])
    assert caught.value.exit_code == 4
    with pytest.raises(SdkTooOld, match=rf"v75 \(SM8650\); {has}"):
        device_parts(sdk, SOCS["SM8650"])
    (sdk.root / "lib/hexagon-v73/unsigned/libSnpeHtpV73Skel.so").unlink()
    assert open_sdk(sdk.root).hexagons == (68, 69)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    sdk = open_sdk(make_sdk(tmp_path, "2.14"))
    (sdk.root / "lib/aarch64-android/libc++_shared.so").unlink()
    with pytest.raises(SdkIncomplete, match=r"libc\+\+_shared\.so"):  # which releases before 2.21 need
        device_parts(sdk, SOCS["SM8550"])
    (sdk.root / "lib/aarch64-android/libSNPE.so").unlink()
    with pytest.raises(SdkIncomplete, match=r"libSNPE\.so"):
        device_parts(sdk, SOCS["SM8550"])


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((), "is not an SNPE or QAIRT SDK: it has no bin/aarch64-android"),
        (("README.md", "bin/tool"), "is not an SNPE or QAIRT SDK"),
        (
            ("bin/x86_64-windows-msvc/snpe-net-run.exe", "bin/aarch64-windows-msvc/x"),
            "other hosts.*aarch64-windows-msvc",
        ),
        (("bin/x86_64-windows-msvc/snpe-onnx-to-dlc",), "other hosts: it has programs for x86_64-windows-msvc"),
        (("bin/aarch64-ubuntu-gcc9.4/snpe-net-run",), "other hosts: it has programs for aarch64-ubuntu-gcc9"),
        (("bin/aarch64-android/qnn-net-run",), "QNN's programs only"),
        (("2.25.0.240728/bin/aarch64-android/snpe-net-run",), "has SDKs in it"),
    ],
)
def test_a_folder_that_is_no_sdk(tmp_path: Path, files: tuple[str, ...], said: str) -> None:
    for name in files:
        write(tmp_path / name, "")
    with pytest.raises(NotAnSdk, match=said) as caught:
        open_sdk(tmp_path)
    assert caught.value.exit_code == 4
    assert str(tmp_path) in str(caught.value)
    if "2.25" in str(files):
        assert "2.25.0.240728" in caught.value.hint


def test_no_folder_and_snpe_1(tmp_path: Path) -> None:
    with pytest.raises(NotAnSdk, match="no such folder"):
        open_sdk(tmp_path / "none")
    root = make_sdk(tmp_path, "2.10").rename(tmp_path / "snpe-1.68.0.3932")
    with pytest.raises(SdkTooOld, match="is SNPE 1"):
        open_sdk(root)


def test_an_sdk_without_android(tmp_path: Path) -> None:
    root = make_sdk(tmp_path, "2.25")
    shutil.rmtree(root / "bin/aarch64-android")
    sdk = open_sdk(root)
    assert sdk.layout is None
    assert sdk.tool("snpe-onnx-to-dlc") is not None
    with pytest.raises(NotAnSdk, match="no Android part"):
        device_parts(sdk)


def test_the_vendors_variables_are_read() -> None:
    assert sdk_from_environment({}) is None
    assert sdk_from_environment({"QNN_SDK_ROOT": "/q", "SNPE_ROOT": "/s"}) == Path("/s")


def test_elsewhere_the_sdks_converter_is_used(
    request_for: BuildRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    root = make_sdk(tmp_path, "2.25")
    tools = root / "bin/x86_64-linux-clang"
    asked = replace(request_for, sdk=root, recipe=Recipe("fp32"))
    made = build_bundle(asked, tmp_path / "bundle", quiet)
    command = (made.path / "device/model.dlc").read_text()
    assert '"--input_dim", "input_ids", "1,384", "--input_dim", "attention_mask", "1,384"' in command
    (tools / "snpe-onnx-to-dlc").write_text("#!/bin/sh\necho ERROR - Conversion failed\nexit 1\n")
    with pytest.raises(VendorToolFailed, match="ERROR - Conversion failed"):
        build_bundle(asked, tmp_path / "other", quiet)
    assert not (tmp_path / "other").exists()
    shutil.rmtree(tools)
    with pytest.raises(NoConverter):
        build_bundle(asked, tmp_path / "other", quiet)


def test_a_bundle_brings_them_along(request_for: BuildRequest, tmp_path: Path) -> None:
    made = build_bundle(replace(request_for, sdk=make_sdk(tmp_path, "2.25")), tmp_path / "bundle", quiet)
    assert ENGINES["snpe"].path in made.device_files
    assert "libSnpeHtpV75Skel" in (made.path / layout.DEVICE / "dsp/libSnpeHtpV75Skel.so").read_text()


def test_the_recorded_options_say_where_they_come_from() -> None:
    for path in HELP.glob("*.json"):
        recorded = json.loads(path.read_text(encoding="utf-8"))
        assert recorded["release"] == path.stem
        assert recorded["source"]
        assert recorded["sure"] in ("H", "M")
