"""Tests `bench`: warm-up and repeats on a phone, temperatures, and unchanged runs of the bundle."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler import layout
from bundler.bundle import Bundle
from bundler.cli import main
from bundler.device.phone import Phone
from bundler.errors import UsageError
from bundler.pipeline.bench import BenchRequest, bench, rows
from bundler.runs.record import newest_run
from tests.deploying import deploy, fetch, quiet
from tests.phones import virtual_phone
from tests.test_schemas import check


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    with virtual_phone(tmp_path_factory.mktemp("phone"), faults=["run-time:5"]) as made:
        yield made


@pytest.mark.slow
def test_repeats_are_measured_and_warm_up_is_not(
    phone: Phone, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "bench", "--bundle", str(bundle.path), "--device", phone.serial, "--adb-host", phone.server.host, "--adb-port",
        str(phone.server.port), "--warm-up", "1", "--repeats", "2", "--cool-down", "0", "--windows", "3",
    ]  # fmt: skip
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    check(document, "bench")
    assert (document["windows"], len(document["repeats"])) == (3, 2)
    assert document["overall"]["inference_ms"]["count"] == 4
    assert document["repeats"][0]["latency"]["source"] == "times of the output files"
    assert document["repeats"][0]["before"].keys() == {"hottest_celsius", "battery_celsius"}
    assert document["phone"] == {"name": phone.serial, "soc": "SM8650", "model": document["phone"]["model"]}
    assert json.loads(layout.bench_file(bundle.path, "cpu", phone.serial).read_text()) == document
    assert main([*command, "--out", str(tmp_path / "b.json")]) == 0
    assert "p90" in capsys.readouterr().out
    assert [row[0] for row in rows(document)] == ["1", "2", "all"]


@pytest.mark.slow
def test_the_bundles_runs_are_left_alone(phone: Phone, bundle: Bundle) -> None:
    run = deploy(phone, bundle)
    before = fetch(phone, bundle).answers
    document = bench(
        bundle.path, phone.server, BenchRequest(devices=[phone.serial], warm_up=0, repeats=1, cool_down_s=0), quiet
    )
    assert document["windows"] == 4
    assert newest_run(bundle) == run
    assert fetch(phone, bundle).answers == before


def test_one_phone_at_a_time(phone: Phone, bundle: Bundle) -> None:
    there = f"{phone.server.host}:{phone.server.port}/{phone.serial}"
    with pytest.raises(UsageError, match="one phone"):
        bench(bundle.path, phone.server, BenchRequest(devices=[phone.serial, there]), quiet)
