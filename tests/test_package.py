"""Tests the wheel and the source distribution: their contents, and that the wheel works without the checkout.

tools/pythons.sh installs it with its dependencies from the registry, and runs the demo.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import typer

from tools import licences

SCHEMAS = ("answers", "ask", "bench", "evaluation", "nbest_predictions", "null_odds", "predictions", "trial")
ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 300


BUILD = "import sys; from hatchling.cli import hatchling; sys.exit(hatchling())"
BROUGHT = {"google", "markupsafe"}  # what onnx raises where a file is none, and what jinja2's templates are made of
OPTIONAL = {"dask", "distributed", "torch"}  # imported where an extra brought it


@pytest.fixture(scope="module")
def hatchling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the build tool that pyproject.toml names."""
    folder = tmp_path_factory.mktemp("hatchling")
    (tool,) = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    command = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), tool]
    subprocess.run(command, check=True, timeout=LIMIT_S, capture_output=True)
    return folder


def build(target: str, project: Path, out: Path, hatchling: Path) -> Path:
    """Builds the project's sdist or wheel into a folder."""
    command = [sys.executable, "-c", BUILD, "build", "-t", target, "-d", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(hatchling)}
    subprocess.run(command, cwd=project, env=environment, check=True, timeout=LIMIT_S, capture_output=True)
    (made,) = out.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, hatchling: Path) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"), hatchling)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory, hatchling: Path) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"), hatchling)


@pytest.mark.slow
def test_holds_code_templates_scripts_and_the_demo(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "bundler").rglob("*.py")}
    data = {
        *(f"bundler/demo/{name}" for name in ("MODEL_CARD.md", "model.onnx", "questions.json", "tokenizer.json")),
        *(f"bundler/device_scripts/{name}.sh" for name in ("job", "probe", "store")),
        "bundler/device/known_errors.toml",
        "bundler/device/known_limits.toml",
        "bundler/__init__.pyi",
        "bundler/py.typed",
        *(f"bundler/schemas/{name}.json" for name in SCHEMAS),
        "bundler/sdk/versions.toml",
        "bundler/socs.json",
        "bundler/templates/input_list.txt.j2",
        *(
            f"bundler/templates/report.{kind}"
            for kind in ("cards.js", "css", "html.j2", "js", "list.js", "questions.css")
        ),
        "bundler/templates/htp.json.j2",
        "bundler/templates/run_qnn.sh.j2",
        "bundler/templates/run_snpe.sh.j2",
        "bundler/templates/run_start.sh.j2",
    }
    assert names == code | data


@pytest.mark.slow
def test_works_where_there_is_no_checkout(wheel: Path, tmp_path: Path) -> None:
    """Installs only the wheel; the dependencies are this environment's."""
    venv.create(tmp_path / "env", with_pip=False)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    lent = str(Path(typer.__file__).parents[1])
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


def test_the_sdist_has_all_that_is_tracked_and_gives_the_same_wheel(
    wheel: Path, sdist: Path, hatchling: Path, tmp_path: Path
) -> None:
    shutil.unpack_archive(sdist, tmp_path)
    (project,) = tmp_path.iterdir()
    assert build("wheel", project, tmp_path / "again", hatchling).read_bytes() == wheel.read_bytes()
    for name in ("LICENSE", "README.md", "docs/licences.md", "tests/conftest.py", "tools/lower_bounds.sh"):
        assert (project / name).read_bytes() == (ROOT / name).read_bytes()


def test_metadata_tell_what_pip_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        told = archive.read(name).decode()
        folder = name.partition("/")[0]
        assert archive.read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        assert "mbqa-bundle = bundler.cli:main" in archive.read(f"{folder}/entry_points.txt").decode()
    assert "License-Expression: MIT\n" in told
    assert "Requires-Python: >=3.11\n" in told
    assert re.findall(r"Python :: (3\.\d+)", told) == ["3.11", "3.12", "3.13"]


def test_what_is_imported_is_asked_for() -> None:
    """pyproject.toml must require it: a transitive dependency may disappear with the next release."""
    imported = set()
    for path in (ROOT / "bundler").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"bundler"} - BROUGHT - OPTIONAL
    asked = {name.replace("-", "_") for name, _ in licences.dependencies()}
    assert foreign <= asked
    assert foreign >= {"adbutils", "huggingface_hub", "numpy", "onnx", "tokenizers", "typer"}


def test_the_licences_are_those_of_what_is_installed() -> None:
    told, asked = licences.rows(), dict(licences.dependencies())
    assert {name: purpose for name, (purpose, _) in told.items()} == asked
    installed = {name: licence for name in asked if (licence := licences.licence_of(name))}
    assert len(installed) >= len(asked) - len(OPTIONAL)
    assert {name: told[name][1] for name in installed} == installed


def test_every_data_file_is_among_the_licences(wheel: Path) -> None:
    page = licences.PAGE.read_text(encoding="utf-8").partition("## What is installed")[0]
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    named = re.findall(r"`([^`]+)`", page)
    for name in (name.removeprefix("bundler/") for name in names if not name.endswith(".py")):
        assert name in named or f"{name.partition('/')[0]}/" in named, name
