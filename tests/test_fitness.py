"""Tests that unsuitable phones are refused before any push, with phone, chip and reason."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from bundler import layout
from bundler.bundle import Bundle, FileEntry
from bundler.device.probe import PhoneFacts
from bundler.engines import ENGINES
from bundler.errors import NoNetRun, PhoneRefused, RuntimeUnsupported
from bundler.scheduler.compatibility import check_fitness, choose_runtime, files_for, why_not
from bundler.types import RUNTIMES, Runtime

GOOD = PhoneFacts(
    soc_model="SM8650", abi="arm64-v8a", model="A phone", android="14", free_bytes=1 << 30, net_run="/system/bin/x"
)
SNPE, QNN = ENGINES["snpe"], ENGINES["qnn"]
SDK_FILES = ("bin/snpe-net-run", "lib/libSNPE.so", "lib/libSnpeHtpV75Stub.so", "dsp/libSnpeHtpV75Skel.so")


def facts(**differing: object) -> PhoneFacts:
    return replace(GOOD, **differing)  # type: ignore[arg-type]


def with_files(bundle: Bundle, *names: str) -> Bundle:
    """Returns the bundle as if it had these additional files for the phone."""
    added: Mapping[str, FileEntry] = {f"{layout.DEVICE}/{name}": FileEntry(1, "0" * 64) for name in names}
    return replace(bundle, manifest=replace(bundle.manifest, files={**bundle.manifest.files, **added}))


def of_precision(bundle: Bundle, precision: str) -> Bundle:
    model = replace(bundle.manifest.model, precision=precision)
    return replace(bundle, manifest=replace(bundle.manifest, model=model))


def test_a_phone_without_checksums_is_refused_before_anything_is_pushed(bundle: Bundle) -> None:
    with pytest.raises(PhoneRefused, match="R5CT: making a checksum failed: it has no sha256sum that works"):
        check_fitness("R5CT", facts(sha256sum=False), bundle, SNPE)
    for told in (True, None):
        check_fitness("R5CT", facts(sha256sum=told), bundle, SNPE)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_phone_that_can_is_not_hindered(runtime: Runtime, bundle: Bundle) -> None:
    for phone in (GOOD, facts(soc_maker="QTI", runs_programs=True), facts(soc_model="SM9999"), facts(abi="")):
        for given in (bundle, with_files(bundle, *SDK_FILES)):
            check_fitness("R5CT", phone, given, SNPE)
            assert choose_runtime("R5CT", phone, given, runtime, None, SNPE) == runtime


@pytest.mark.parametrize(
    ("differing", "precision", "said", "hint"),
    [
        (
            {"soc_model": "SM8250"},
            "w8a8",
            "R5CT (SM8250): no DSP run possible: its Hexagon v66 has no HTP",
            "cpu or gpu",
        ),
        ({"soc_model": "", "platform": "kona"}, "w8a8", "(SM8250): no DSP run", "cpu or gpu"),
        ({"soc_model": "SM8350P"}, "fp16", "(SM8350): no DSP run possible: its Hexagon v68 does not compute", "w8a16"),
        ({"soc_model": "SM8450"}, "w16a16", "v69 does not compute weights of 16 bits", "w8a16"),
        (
            {"soc_model": "SM8550"},
            "fp16",
            "its Hexagon is v73, and the bundle has the libraries for v75",
            "--soc SM8550",
        ),
        (
            {"soc_model": "MT6989", "soc_maker": "Mediatek"},
            "fp16",
            "(MT6989): no DSP run possible: it is a chip of Me",
            "cpu",
        ),
    ],
)
def test_a_chip_that_cannot_is_refused_or_the_fallback_taken(
    differing: dict[str, object], precision: str, said: str, hint: str, bundle: Bundle
) -> None:
    given = of_precision(with_files(bundle, *SDK_FILES), precision)
    phone = facts(**differing)
    with pytest.raises(RuntimeUnsupported) as choosing:
        choose_runtime("R5CT", phone, given, "dsp", None, SNPE)
    assert said in str(choosing.value)
    assert hint in choosing.value.hint
    assert choose_runtime("R5CT", phone, given, "dsp", "cpu", SNPE) == "cpu"
    assert choose_runtime("R5CT", phone, given, "cpu", None, SNPE) == "cpu"
    check_fitness("R5CT", phone, given, SNPE)


def test_snpes_gpu_is_qualcomms(bundle: Bundle) -> None:
    tensor = facts(soc_model="Tensor G3", soc_maker="Google")
    with pytest.raises(RuntimeUnsupported, match="no GPU run possible: it is a chip of Google"):
        choose_runtime("R5CT", tensor, bundle, "gpu", None, SNPE)
    with pytest.raises(RuntimeUnsupported, match="no DSP run possible"):
        choose_runtime("R5CT", tensor, bundle, "dsp", "gpu", SNPE)  # a fallback that cannot either
    assert why_not("R5CT", tensor, bundle, "cpu", SNPE) is None


def test_a_phone_that_runs_no_programs_is_refused(bundle: Bundle) -> None:
    with pytest.raises(PhoneRefused, match=r"phone R5CT: running a program in /data/local/tmp/mbqa failed") as refused:
        check_fitness("R5CT", facts(runs_programs=False), bundle, SNPE)
    assert "/data/local/tmp" in refused.value.hint


def test_a_32_bit_android_takes_no_bundle_with_programs(bundle: Bundle) -> None:
    old = facts(abi="armeabi-v7a")
    with pytest.raises(PhoneRefused, match="for arm64-v8a, and the phone's Android is armeabi-v7a") as refused:
        check_fitness("R5CT", old, with_files(bundle, *SDK_FILES), SNPE)
    assert "64-bit" in refused.value.hint
    check_fitness("R5CT", old, bundle, SNPE)  # with an snpe-net-run of its own


def test_without_snpe_net_run_nothing_goes(bundle: Bundle) -> None:
    with pytest.raises(NoNetRun, match="there is no snpe-net-run"):
        check_fitness("R5CT", facts(net_run=""), bundle, SNPE)
    check_fitness("R5CT", facts(net_run=""), with_files(bundle, *SDK_FILES), SNPE)


def test_a_phone_gets_its_own_files_only(bundle: Bundle) -> None:
    foreign = ("lib/libSnpeHtpV73Stub.so", "dsp/libSnpeHtpV73Skel.so", f"{layout.PREPARED}/SM8550-abc.bin")
    own = (*SDK_FILES, f"{layout.PREPARED}/SM8650-abc.bin")
    given = with_files(bundle, *own, *foreign)
    assert set(files_for(given, GOOD, SNPE)) == {*bundle.device_files, *own}
    assert set(files_for(given, facts(soc_model="SM9999"), SNPE)) == {*bundle.device_files, *SDK_FILES, *foreign[:2]}
