"""The wheel: what it holds, and that it works from an environment of its own, away from the checkout."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

SCHEMAS = ("answers", "bench", "evaluation", "nbest_predictions", "null_odds", "predictions")
ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 300


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=LIMIT_S, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


def test_holds_code_templates_scripts_and_the_demo(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "bundler").rglob("*.py")}
    data = {
        *(f"bundler/demo/{name}" for name in ("MODEL_CARD.md", "model.onnx", "questions.json", "tokenizer.json")),
        *(f"bundler/device_scripts/{name}.sh" for name in ("job", "probe", "store")),
        "bundler/device/known_errors.toml",
        "bundler/py.typed",
        *(f"bundler/schemas/{name}.json" for name in SCHEMAS),
        "bundler/socs.json",
        "bundler/templates/input_list.txt.j2",
        *(
            f"bundler/templates/report.{kind}"
            for kind in ("cards.js", "css", "html.j2", "js", "list.js", "questions.css")
        ),
        "bundler/templates/run_snpe.sh.j2",
    }
    assert names == code | data


def test_works_where_there_is_no_checkout(wheel: Path, tmp_path: Path) -> None:
    """Only the wheel is new there; its dependencies are lent by this environment."""
    venv.create(tmp_path / "env", with_pip=False)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    lent = next(path for path in sys.path if path.endswith("site-packages"))
    code = (
        f"import sys; sys.path.append({lent!r})\n"
        "from bundler import resources\nfrom bundler.cli import main\n"
        "assert str(resources.TEMPLATES).startswith(sys.prefix), resources.TEMPLATES\n"
        "assert (resources.TEMPLATES / 'run_snpe.sh.j2').is_file()\n"
        "assert (resources.DEVICE_SCRIPTS / 'probe.sh').is_file()\n"
        "sys.exit(main(['build']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site) + os.pathsep + lent}
    command = [str(tmp_path / "env/bin/python"), "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bundle/device/model.dlc").stat().st_size > 1_000_000
