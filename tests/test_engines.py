"""Tests both engines on phones: the choice between them, their files, equal answers, and the record of the engine."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundler import layout
from bundler.bundle import Bundle, FileEntry, Window, read_bundle
from bundler.cli import main
from bundler.device.chunks import Chunk
from bundler.device.htp_settings import htp_settings
from bundler.device.job import Settings
from bundler.device.outputs import load
from bundler.device.phone import Phone
from bundler.device.probe import PhoneFacts
from bundler.engines import ENGINES, EngineChoice, EngineName
from bundler.errors import EngineMissing, RunFailed, UsageError
from bundler.evaluation.rows import rows
from bundler.model.make import Recipe
from bundler.model.sdk import device_parts, open_sdk
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.pipeline.evaluate import EvaluateRequest, evaluate_bundles
from bundler.runs.record import Run, newest_run
from bundler.scheduler.compatibility import choose_engine, files_for
from bundler.soc import known_socs
from bundler.types import RUNTIMES, Runtime
from tests.deploying import deploy, fetch, quiet, sh
from tests.fake_sdk import make_sdk, write
from tests.phones import virtual_phone

SM8650 = known_socs()["SM8650"]
BOTH = PhoneFacts("SM8650", "arm64-v8a", "A phone", "14", 1 << 30, "/bin/snpe-net-run", qnn_net_run="/bin/qnn-net-run")
NEITHER = replace(BOTH, net_run="", qnn_net_run="")
PROGRAMS = {name: FileEntry(1, "0" * 64) for name in ("device/bin/snpe-net-run", "device/bin/qnn-net-run")}
SNPE, QNN = PROGRAMS


@pytest.fixture(scope="module")
def whole(request_for: BuildRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a bundle with both engines' parts, whose programs are for another processor."""
    folder = tmp_path_factory.mktemp("whole")
    sdk = make_sdk(folder, "qairt")
    for engine in ENGINES.values():
        write(sdk / "bin/aarch64-android" / engine.program, "\x7fELF")
    asked = replace(request_for, sdk=sdk, recipe=Recipe("fp16", converter="built-in", prepare=False))
    return build_bundle(asked, folder / "bundle", quiet).path


def changed(bundle: Bundle, with_files: Sequence[str] = (), without: str = "", **model: str) -> Bundle:
    """Returns the bundle as if it had these additional files, and without one."""
    manifest = bundle.manifest
    files = {**manifest.files, **{name: PROGRAMS[name] for name in with_files}}
    files.pop(without, None)
    return replace(
        bundle,
        manifest=replace(manifest, files=files, model=replace(manifest.model, **model)),  # type: ignore[arg-type]
    )


def logits(bundle: Bundle, run: Run) -> dict[str, np.ndarray]:
    windows: Sequence[Window] = bundle.manifest.windows
    return load(run.folder(bundle.path), Chunk(0, len(windows)), bundle.manifest.outputs)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_both_answer_alike(phone: Phone, bundle: Bundle, runtime: Runtime) -> None:
    computed = {}
    for engine in ENGINES:
        run = deploy(phone, bundle, runtime, engine=engine)
        assert run.settings.engine == engine
        assert json.loads((run.folder(bundle.path) / layout.RUN).read_text())["settings"]["engine"] == engine
        computed[engine] = logits(bundle, run)
    assert all((computed["snpe"][name] == computed["qnn"][name]).all() for name in computed["snpe"])


@pytest.mark.parametrize(
    ("facts", "brought", "wrote", "taken"),
    [
        (BOTH, (), "qnn", "qnn"),
        (BOTH, (), "snpe", "snpe"),
        (BOTH, (SNPE,), "qnn", "snpe"),  # an SDK of SNPE alone
        (BOTH, (QNN,), "snpe", "qnn"),
        (NEITHER, (SNPE, QNN), "qnn", "qnn"),
        (NEITHER, (SNPE, QNN), "snpe", "snpe"),
        (replace(BOTH, net_run=""), (), "snpe", "qnn"),
        (replace(BOTH, qnn_net_run=""), (), "qnn", "snpe"),
        (NEITHER, (), "qnn", "snpe"),  # which is refused for want of a program
    ],
)
def test_auto(facts: PhoneFacts, brought: Sequence[str], wrote: str, taken: EngineName, bundle: Bundle) -> None:
    given = changed(bundle, brought, engine=wrote)
    assert choose_engine("R5CT", facts, given, "auto") == taken


def test_a_bundle_of_an_older_release_goes_with_snpe(bundle: Bundle) -> None:
    told = json.loads(bundle.manifest.to_json())
    del told["model"]["engine"], told["model"]["graph"], told["files"]["device/run_qnn.sh"]
    older = replace(bundle, manifest=type(bundle.manifest).from_json(json.dumps(told)))
    assert choose_engine("R5CT", BOTH, older, "auto") == "snpe"
    assert choose_engine("R5CT", replace(BOTH, net_run=""), older, "auto") == "snpe"
    with pytest.raises(EngineMissing, match=r"the bundle has no run_qnn\.sh: an older release built it"):
        choose_engine("R5CT", BOTH, older, "qnn")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_named_engine_that_is_nowhere(engine: EngineChoice, bundle: Bundle) -> None:
    said = f"phone R5CT: there is no {engine}-net-run, neither on the phone's PATH nor in the bundle"
    with pytest.raises(EngineMissing, match=said) as caught:
        choose_engine("R5CT", NEITHER, bundle, engine)
    assert (caught.value.exit_code, bool(caught.value.hint)) == (4, True)
    assert choose_engine("R5CT", BOTH, bundle, engine) == engine


def test_the_dlc_tells_who_wrote_it(bundle: Bundle) -> None:
    model = bundle.manifest.model
    assert (model.engine, bool(model.graph)) == ("qnn", True)


def test_an_sdk_of_both_brings_both_and_a_phone_gets_one(whole: Path) -> None:
    bundle = read_bundle(whole)
    for engine, other in (("snpe", "qnn"), ("qnn", "snpe")):
        sent = files_for(bundle, NEITHER, ENGINES[engine])  # type: ignore[index]
        assert {name for name in sent if ENGINES[other].owns(name)} == set()  # type: ignore[index]
        assert {f"bin/{engine}-net-run", "run_snpe.sh", "run_qnn.sh", "model.dlc"} <= sent.keys()
        hexagons = {name for name in sent if "V7" in name or "V69" in name}
        family = ENGINES[engine].family  # type: ignore[index]
        assert hexagons == {f"lib/lib{family}HtpV75Stub.so", f"dsp/lib{family}HtpV75Skel.so"}
    assert "lib/libQnnModelDlc.so" in files_for(bundle, NEITHER, ENGINES["qnn"])


def test_an_sdk_whose_qnn_is_not_whole_brings_snpe_alone(tmp_path: Path) -> None:
    root = make_sdk(tmp_path, "qairt")
    assert "bin/qnn-net-run" in device_parts(open_sdk(root), SM8650)
    (root / "lib/hexagon-v75/unsigned/libQnnHtpV75Skel.so").unlink()
    parts = device_parts(open_sdk(root), SM8650)
    assert "bin/snpe-net-run" in parts
    assert not [name for name in parts if ENGINES["qnn"].owns(name)]


@pytest.mark.slow
def test_qnn_runs_from_an_sdk_with_the_settings_of_the_htp(whole: Path, tmp_path: Path) -> None:
    bundle = read_bundle(whole)
    with virtual_phone(tmp_path / "phone") as phone:
        run = deploy(phone, bundle, "dsp", perf_profile="balanced", platform_options="unsignedPD:OFF")
        assert run.settings.engine == "qnn"
        folder = layout.remote_bundle(bundle.id)
        assert not sh(phone, f"cd {folder} && ls lib dsp bin | grep -i snpe || true")
        settings = json.loads(sh(phone, f"cat '{folder}/htp_balanced_unsignedPD:OFF.json'"))
        log = sh(phone, f"cat {folder}/jobs/dsp/log.txt")
        assert "Finished Executing Graphs" in log
        assert "Unknown Key" not in log
    assert settings["graphs"] == [{"graph_names": [bundle.manifest.model.graph], "fp16_relaxed_precision": 1}]
    cores = [{"core_id": 0, "perf_profile": "balanced"}]
    assert settings["devices"] == [{"soc_model": 57, "dsp_arch": "v75", "pd_session": "signed", "cores": cores}]


def test_what_nothing_tells_is_not_set(bundle: Bundle) -> None:
    name, text = htp_settings("htp.json.j2", 'a"<b', None, Settings("0123", "dsp", engine="qnn"))
    told = json.loads(text)
    assert name == "htp_burst_.json"
    assert told["graphs"][0]["graph_names"] == ['a"<b']
    assert told["devices"] == [{"cores": [{"core_id": 0, "perf_profile": "burst"}]}]


@pytest.mark.slow
def test_the_evaluation_names_the_engine(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with virtual_phone(tmp_path / "phone") as phone:
        deploy(phone, bundle, "cpu", engine="snpe")
        deploy(phone, bundle, "dsp")
        fetch(phone, bundle)
    document = evaluate_bundles(EvaluateRequest(bundles=[bundle.path])).document
    assert [(run["runtime"], run["engine"]) for run in document["runs"]] == [("cpu", "snpe"), ("dsp", "qnn")]
    assert [row[1] for row in rows(document)] == ["-", "snpe", "qnn"]
    assert main(["evaluate", str(bundle.path), "--engine", "qnn", "--json"]) == 0
    assert [run["engine"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["qnn"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill-run:1", "cut-run:1", "run-nan:0"])
def test_faults_that_are_mended_befall_qnn_too(fault: str, bundle: Bundle, tmp_path: Path) -> None:
    with virtual_phone(tmp_path / "phone", faults=[fault]) as phone:
        assert deploy(phone, bundle, engine="qnn", chunk=2).finished
        assert len(fetch(phone, bundle).answers) == len(bundle.questions)


@pytest.mark.slow
def test_a_crash_of_qnn_is_told_and_gone_on_from(bundle: Bundle, tmp_path: Path) -> None:
    with virtual_phone(tmp_path / "phone", faults=["run-crash:1"]) as phone:
        with pytest.raises(RunFailed, match="qnn-net-run ended with exit code 139"):
            deploy(phone, bundle, engine="qnn", chunk=2)
        assert deploy(phone, bundle, engine="qnn", chunk=2).finished


def test_phones_of_different_engines_are_asked_about(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter([BOTH, replace(BOTH, qnn_net_run="")])
    monkeypatch.setattr("bundler.pipeline.deploy.probe", lambda _: next(asked))
    said = pytest.raises(UsageError, match="not every phone has the same programs")
    with virtual_phone(tmp_path / "phone") as phone, said:
        deploy(phone, bundle, devices=[phone.serial, f"{phone.server.host}:{phone.server.port}/{phone.serial}"])
    assert newest_run(bundle) is None
