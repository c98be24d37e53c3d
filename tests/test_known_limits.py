"""Tests the known limits: each holds in its cases, and in no others."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler.bundle import Bundle, write_manifest
from bundler.cli import main
from bundler.device.known_limits import COMPARED, KnownLimit, Use, is_within, known_limits, limits_of
from bundler.device.probe import PhoneFacts
from bundler.soc import known_socs
from tests.phones import virtual_phone

DOC = Path(__file__).parents[1] / "docs" / "phones.md"


def phone(soc: str) -> PhoneFacts:
    return PhoneFacts(soc, "arm64-v8a", "a phone", "14", None, "", "QTI")


# each limit by name: a phone and a use for which it holds, then changes of either for which it does not
CASES: dict[str, tuple[PhoneFacts, dict[str, Any], list[PhoneFacts | dict[str, Any]]]] = {
    "w8a16 on v68": (
        phone("SM7325"),
        {"runtime": "dsp", "precision": "w8a16", "sdk": "2.19.0.240124"},
        [phone("SM8550"), {"sdk": "2.20.0"}, {"sdk": ""}, {"precision": "fp16"}, {"runtime": "cpu"}],
    ),
    "attention on v68": (
        phone("QCS6490"),
        {"runtime": "dsp", "precision": "w8a16"},
        [phone("SM8450"), {"precision": "w8a8"}, {"runtime": "gpu"}],
    ),
    "zeros of 2.27": (
        phone("SM8650"),
        {"runtime": "dsp", "precision": "fp16", "sdk": "2.27.7.241014"},
        [phone("SM8550"), {"sdk": "2.25.0.240728"}, {"sdk": "2.28.0"}, {"precision": "w8a16"}, {"runtime": "gpu"}],
    ),
    "SM8750 not detected": (
        phone("SM8750P"),
        {"runtime": "dsp", "sdk": "2.42.0.251225"},
        [phone("SM8650"), {"sdk": "2.43.0"}, {"runtime": "cpu"}],
    ),
    "context of a newer release": (
        phone("SM8650"),
        {"runtime": "dsp", "engine": "qnn", "prepared": True, "sdk": "2.42.0"},
        [{"engine": "snpe"}, {"prepared": False}, {"sdk": "2.51.0.260929"}],
    ),
    "quantizer of 2.22": (
        phone("SM8550"),
        {"precision": "w8a8", "sdk": "2.22.6.240515"},
        [{"precision": "fp16"}, {"sdk": "2.21.0"}],
    ),
}


def names(facts: PhoneFacts, use: dict[str, Any]) -> list[str]:
    return [limit.name for limit in limits_of(facts, Use(**use))]


@pytest.mark.parametrize("name", [limit.name for limit in known_limits()])
def test_a_limit_holds_here_and_not_there(name: str) -> None:
    facts, use, others = CASES[name]
    assert name in names(facts, use)
    for other in others:
        assert name not in (names(other, use) if isinstance(other, PhoneFacts) else names(facts, {**use, **other}))


def test_a_new_phone_with_a_new_sdk_has_none() -> None:
    assert not names(
        phone("SM8650"), {"runtime": "dsp", "precision": "fp16", "sdk": "2.50.0.260828", "prepared": False}
    )


def test_what_is_open_counts_and_what_is_not_told_does_not() -> None:
    """doctor knows only the phone and the SDK."""
    assert "attention on v68" in names(phone("SM7325"), {})
    assert "w8a16 on v68" not in names(phone("SM7325"), {})
    assert names(phone(""), {"sdk": "2.27.0"}) == names(phone("EXYNOS"), {"sdk": "2.27.0"})


@pytest.mark.slow
def test_deploy_warns(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(bundle.manifest.model, precision="fp16")
    write_manifest(bundle.path, replace(bundle.manifest, model=model, sdk="2.27.7.241014"))
    with virtual_phone(tmp_path / "phone") as made:
        server = ["--adb-host", made.server.host, "--adb-port", str(made.server.port), "--device", made.serial]
        for runtime, warnings in (("dsp", 1), ("cpu", 0)):
            assert main(["deploy", str(bundle.path), "--runtime", runtime, *server]) == 0
            assert capsys.readouterr().err.count("gave zeros for every logit") == warnings


@pytest.mark.parametrize(
    ("version", "wanted", "is_so"),
    [
        ("2.27.0", ">=2.27,<2.28", True),
        ("2.27", ">=2.27,<2.28", True),
        ("2.28", ">=2.27,<2.28", False),
        ("2.9.1", "<2.20", True),
        ("", "<2.20", False),
        ("unknown", "<2.20", False),
    ],
)
def test_versions(version: str, wanted: str, is_so: bool) -> None:
    assert is_within(version, wanted) is is_so


@pytest.mark.parametrize("limit", known_limits(), ids=[limit.name for limit in known_limits()])
def test_the_table_is_whole(limit: KnownLimit) -> None:
    assert limit.warning.endswith(".")
    assert limit.remedy.endswith(".")
    assert limit.source
    assert set(limit.soc) <= set(known_socs())
    assert not COMPARED.sub("", limit.sdk).strip(",")
    row = re.escape(f"| {limit.warning} | {limit.remedy} |")
    assert re.search(rf"^{row} .* \|$", DOC.read_text(encoding="utf-8"), flags=re.MULTILINE)
