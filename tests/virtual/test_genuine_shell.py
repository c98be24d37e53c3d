"""What the virtual phone's shell is compared with is what the genuine parts do: the records, run again there."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bundler.device.phone import Phone
from tests.phones import genuine_phone, why_no_genuine_phone
from tests.virtual.record_phone_scripts import CASES, full_script

OTHERWISE = {
    "language: special parameters": "$0 is sh there, and /system/bin/sh where the scripts were recorded",
    "language: syntax error after output": "Debian's mksh begins its errors with E:",
    "tools: tar gzip": "toybox's tar and the zcat that it starts share the file's place: now and then `not gzip`",
}
RECORDED = [case for case in json.loads(CASES.read_text(encoding="utf-8")) if case["name"] not in OTHERWISE]
LIMIT_S = 20.0
CLEAN = "rm -rf /data/local/tmp/* /data/local/tmp/.[!.]*"


@pytest.fixture(scope="module")
def genuine() -> Iterator[Phone]:
    reason = why_no_genuine_phone()
    if reason:
        pytest.skip(reason)
    with genuine_phone(AS_SHELL="1") as phone:
        yield phone


@pytest.mark.slow
@pytest.mark.genuine
@pytest.mark.parametrize("case", RECORDED, ids=[case["name"] for case in RECORDED])
def test_the_genuine_phone_does_as_recorded(genuine: Phone, case: dict[str, Any]) -> None:
    genuine.run(["sh", "-c", CLEAN], doing="emptying the folder", timeout_s=LIMIT_S)
    stdin = [case["stdin"].encode("latin-1")] if case["stdin"] else ()
    command = ["sh", "-c", full_script(case["script"])]
    done = genuine.run(command, doing=case["name"], timeout_s=LIMIT_S, stdin=stdin, check=False)
    assert (done.exit_code, done.stdout.decode("latin-1")) == (case["status"], case["stdout"]), done.stderr
