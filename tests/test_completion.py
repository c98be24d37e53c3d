"""Tests Tab completion: installs it in a temporary home folder, then calls it as a shell does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT_S = 120
INSTALLED = {
    "bash": (".bash_completions/mbqa-bundle.sh", ".bashrc"),
    "zsh": (".zfunc/_mbqa-bundle", ".zshrc"),
    "fish": (".config/fish/completions/mbqa-bundle.fish",),
}
TYPED = {"mbqa-bundle dep": "deploy", "mbqa-bundle deploy --runtime d": "dsp", "mbqa-bundle phone sta": "start"}
ASK = """
. "$HOME/.bashrc"
COMP_WORDS=($1) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
function=$(complete -p mbqa-bundle | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function" mbqa-bundle
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Sets an empty home folder, with this environment's mbqa-bundle on the PATH."""
    programs = Path(sys.executable).parent
    return {**os.environ, "HOME": str(tmp_path), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}


def shell_called(name: str, folder: Path) -> Path:
    """Returns the shell, or else a bash with its name: Typer asks for the parent process's name."""
    bash = shutil.which("bash")
    assert bash is not None
    return Path(shutil.which(name) or shutil.copy2(bash, folder / name))


def said(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def install(shell: str, folder: Path, environment: dict[str, str]) -> None:
    programs = folder / "shells"
    programs.mkdir()
    said([str(shell_called(shell, programs)), "-c", "mbqa-bundle --install-completion; exit $?"], environment)


@pytest.mark.parametrize("shell", INSTALLED)
def test_each_shell_gets_its_files_and_no_others(shell: str, tmp_path: Path, environment: dict[str, str]) -> None:
    install(shell, tmp_path, environment)
    shutil.rmtree(tmp_path / "shells")
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == {
        *INSTALLED[shell]
    }


def test_bash_completes(tmp_path: Path, environment: dict[str, str]) -> None:
    """Calls the installed function as bash does."""
    install("bash", tmp_path, environment)
    for typed, word in TYPED.items():
        assert said(["bash", "-c", ASK, "bash", typed], environment).split() == [word]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
@pytest.mark.parametrize("typed", TYPED)
def test_zsh_and_fish_get_their_words(shell: str, typed: str, environment: dict[str, str]) -> None:
    """Calls what the installed scripts call, with the variables that they set."""
    asked = {
        "_MBQA_BUNDLE_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": typed,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    words = said(["mbqa-bundle"], {**environment, **asked})
    assert TYPED[typed] in words
    assert "build" not in words
