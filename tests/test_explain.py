"""Tests the explanation of phones' error lines: each recorded or quoted line gets its own, and no other."""

import re
from pathlib import Path

import pytest

from bundler.device.explain import KnownError, explain, known_errors
from bundler.device.phone import Phone
from bundler.errors import RunFailed

DOC = Path(__file__).parents[1] / "docs" / "errors.md"
KNOWN = known_errors()

UNSIGNED_PD = """\
DspTransport.createUnsignedPD unsigned PD or DSPRPC_GET_DSP_INFO not supported by DSP
DspTransport.createUnsignedPD failed, 0x00000003
IDspTransport: Unknown rpc status 0x00000003
DspTransport failed,cannot open session, error 0xffffffff

The selected runtime is not available on this platform. Continue anyway to observe the failure at network creation time.
"""  # qidk issue 68
NO_SESSION = """\
<E> DspTransport.openSession qnn_open failed, 0x80000416
<E> IDspTransport: Unknown rpc status 0x00000016
<E> DspTransport failed,cannot open session, error 0xffffffff
<E> Error from rpc transport. transportStatus = -1
<E> Failed to retrieve skel build id: err: 1003
<E> Failed to create transport for device, error: 1003
<E> Transport layer setup failed: 14001
"""  # ai-hub-apps issue 35
NO_SKEL = """\
QnnDsp <E> DspTransport.openSession qnn_open failed, 0x80000406
QnnDsp <E> Failed to load skel, error: 1002
QnnDsp <E> Transport layer setup failed: 14001
"""  # a public log
NO_MEMORY = """\
<E> Failed to allocate memory
<E> Failed to create transport for device, error: 4000
<E> Failed to load skel, error: 4000
<E> Transport layer setup failed: 14001
"""  # mllm issue 134


@pytest.mark.parametrize("known", KNOWN, ids=[known.name for known in KNOWN])
def test_each_sample_has_its_own_explanation(known: KnownError) -> None:
    assert [other.name for other in KNOWN if other.pattern.search(known.sample)][:1] == [known.name]
    found = explain(["SNPE v2.25.0", f"  {known.sample}\r", "and more"], 1)
    assert found is not None
    assert (found.name, found.line, found.cause, found.remedy) == (known.name, known.sample, known.cause, known.remedy)


def test_the_table_is_whole() -> None:
    assert len({known.name for known in KNOWN}) == len(KNOWN) >= 18
    statuses = [status for known in KNOWN for status in known.statuses]
    assert len(set(statuses)) == len(statuses)
    for known in KNOWN:
        assert all((known.cause, known.remedy, known.sample, known.source))
        assert known.cause.endswith(".")
        assert known.remedy.endswith(".")
        assert "\n" not in known.cause + known.remedy + known.sample


@pytest.mark.parametrize(
    ("log", "name", "line"),
    [
        (UNSIGNED_PD, "unsigned PD not supported", 0),
        (NO_SESSION, "DSP session refused", 0),
        (NO_SKEL, "skel not found", 0),
        (NO_MEMORY, "out of memory", 0),
        ("The selected runtime is not available on this platform.\nerror_code=904; error_message=x", "stub missing", 1),
    ],
)
def test_of_many_lines_the_one_counts_that_says_most(log: str, name: str, line: int) -> None:
    found = explain(log.splitlines(), 1)
    assert found is not None
    assert (found.name, found.line) == (name, log.splitlines()[line])


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("terminate called after throwing an instance of 'std::bad_alloc'", "out of memory"),
        ("Killed ", "out of memory"),
        ('CANNOT LINK EXECUTABLE "./dumpsys": cannot locate symbol "X" referenced by "/y.so"...', "mixed SDK versions"),
        ("Segment violation ", "crashed"),
        ("Failed to open input list: input_list.txt", "input unusable"),
        ("Failed to create output directory: output/dsp: Permission denied", "permission denied"),
        ("Failed to create output directory: output/dsp: No space left on device", "no space"),
        ("SNPE build failed: error_code=7005; error_message= QnnGraph_addNode() failed for layer: Unsqueeze_48;",
         "operator not supported"),
    ],
)  # fmt: skip
def test_other_words_for_the_same(line: str, name: str) -> None:
    found = explain([line], 1)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    ("status", "name"), [(139, "crashed"), (137, "out of memory"), (127, "no program"), (126, "permission denied")]
)
def test_an_exit_code_tells_where_no_line_does(status: int, name: str) -> None:
    found = explain(["Processing DNN input(s):"], status)
    assert found is not None
    assert (found.name, found.line) == (name, "")
    told = explain([known.sample for known in KNOWN[:1]], status)
    assert told is not None
    assert told.name == KNOWN[0].name


@pytest.mark.parametrize(
    "line", ["", "SNPE v2.25.0.240728110523", "Processing DNN input(s):", "inputs/14001x.raw", "200"]
)
def test_what_says_nothing_is_not_explained(line: str) -> None:
    assert explain([line], 1) is None


def test_run_failed_shows_the_line_its_cause_and_what_to_do() -> None:
    found = explain(UNSIGNED_PD.splitlines(), 1)
    assert found is not None
    lines, log = UNSIGNED_PD.splitlines(), Path("runs/dsp/log.txt")
    plain = RunFailed("R5CT", 1, lines, log)
    assert "cannot open session, error 0xffffffff" in str(plain)
    assert plain.hint == f"The whole log is in {log}."
    error = RunFailed("R5CT", 1, lines, log, line=found.line, cause=found.cause, remedy=found.remedy)
    assert str(error) == f"phone R5CT: snpe-net-run ended with exit code 1: {lines[0]}"
    assert error.hint == f"{found.cause} {found.remedy} The whole log is in {log}."


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("kill -SEGV $$", "crashed"),
        ("kill -KILL $$", "out of memory"),
        ("exec snpe-net-run --nonsense", "option not known"),
        ("exec snpe-net-run --container x --input_list nowhere", "input unusable"),
        ("touch f && exec snpe-net-run --container f --input_list f", "container bad"),
        ("PATH=/data/local/tmp; snpe-net-run", "no program"),
        ("echo >snpe-net-run; chmod 644 snpe-net-run; ./snpe-net-run", "permission denied"),
    ],
)
def test_what_the_phone_really_says_is_explained(script: str, name: str, phone: Phone) -> None:
    within = f"cd /data/local/tmp && sh -c '{script}'; code=$?; rm -f f snpe-net-run; exit $code"
    done = phone.run(["sh", "-c", within], doing="x", timeout_s=60, check=False)
    found = explain((done.stdout + done.stderr).decode(errors="replace").splitlines(), done.exit_code)
    assert found is not None
    assert found.name == name


def test_the_document_shows_the_table() -> None:
    rows = re.findall(r"^\| (.+?) \| `(.+)` \| (.+?) \| (.+?) \| (.+?) \|$", DOC.read_text(encoding="utf-8"), re.M)
    assert [tuple(cell.replace(r"\|", "|") for cell in row) for row in rows] == [
        (known.name, known.sample, known.cause, known.remedy, known.source) for known in KNOWN
    ]
