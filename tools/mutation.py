"""Runs mutation tests: measures how many small defects, inserted one at a time, the tests detect.

    python -m tools.mutation [GROUP...] [--only PATTERN] [--sample N] [--seed S] [--show] [--folder FOLDER]

For each group of modules (GROUPS: qa, bundle, device; all by default) this copies the checkout into a temporary folder,
or into FOLDER, where a later run continues with the survivors. There mutmut inserts its mutants and runs the group's
tests on each; nothing here is changed. mutmut skips decorated functions, so the copy has `def f` and `f = property(f)`
for `@property def f`. --sample limits the number of mutants; --seed draws others. Only tests that need no phone are
run; those of the group bundle build one.

Prints for each module how many mutants there are, how many the tests killed, and how many are no defects according to
tools/equivalent.toml, with its reasons; --show prints the rest as diffs. Exit code 1: less than 85 % of some group's
mutants were killed, without the equivalent ones.

`pip install -e '.[test,quality]'` before. There are some 4,300 mutants; `device --sample 150` took four minutes on two
busy cores.
"""

import argparse
import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ENOUGH = 0.85
KILLED = {1, 3, 24, 36, 152, 255, -24}  # mutmut's exit codes: a test failed, pytest failed, it took too long
CACHES = {"cache", "lru_cache"}  # would hand out what was found before the mutant was there
UNDECORATED = {"overload", "staticmethod", "classmethod"}  # mutmut can deal with the last two, the first has no body


@dataclass(frozen=True)
class Group:
    """Modules, as patterns of paths, and the arguments of pytest that run their tests."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    options: tuple[str, ...] = ()


def _tests(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/test_{name}.py" for name in names)


GROUPS = {
    "qa": Group(
        ("bundler/qa/*",),
        _tests("metrics", "questions", "bad_questions", "question_streams", "features", "spans"),
        ("--deselect=tests/test_question_streams.py::test_a_large_file_takes_little_memory",),
    ),
    "bundle": Group(("bundler/bundle/*",), _tests("bundle", "bundle_files", "bundle_kinds")),
    "device": Group(
        tuple(f"bundler/device/{name}.py" for name in ("store", "blobs", "chunks", "tarball", "job")),
        (
            *_tests("dialogue", "tarball", "outputs"),
            *(f"tests/test_job.py::test_{name}" for name in ("status_is_what_the_script_tells", "status_of_odd_words")),
        ),
    ),
}


@dataclass
class Count:
    """The numbers of a module's mutants by their results."""

    tried: int = 0
    killed: int = 0
    equivalent: int = 0
    left: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Returns the killed share of the mutants that are defects."""
        return self.killed / max(1, self.tried - self.equivalent)


def main() -> int:
    options = argparse.ArgumentParser(description="how many small defects the tests notice")
    options.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    options.add_argument("--only", metavar="PATTERN", default="*", help="only modules whose path is like this")
    options.add_argument("--sample", type=int, help="try so many mutants of each group, drawn by chance")
    options.add_argument("--seed", type=int, default=1, help="of the sample")
    options.add_argument("--show", action="store_true", help="print what was not killed")
    options.add_argument("--folder", type=Path, help="work here, and go on with what is there")
    asked = options.parse_args()
    if unknown := set(asked.groups) - set(GROUPS):
        options.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    enough = True
    for name in asked.groups or GROUPS:
        group = GROUPS[name]
        with tempfile.TemporaryDirectory() as temporary:
            folder = (asked.folder or Path(temporary)) / name
            _copy(folder, group)
            names = _names(folder, group, asked.only, asked.sample, asked.seed)
            results = _results(folder)
            again = [each for each in names if results.get(each) not in KILLED]
            if again:
                command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(os.cpu_count() or 1), *again]
                mutants = (folder / "mutants").resolve()
                mutants.mkdir(exist_ok=True)  # or Python would take it for nothing to import from
                (mutants / "mutmut-stats.json").unlink(
                    missing_ok=True
                )  # which test runs which function may have changed
                environment = {**os.environ, "PYTHONPATH": str(mutants)}  # for child processes
                subprocess.run(command, cwd=folder, check=False, stdout=sys.stderr, env=environment)
            enough = _report(name, folder, names, show=asked.show) and enough
    return 0 if enough else 1


def _copy(folder: Path, group: Group) -> None:
    """Creates or updates the copy, without changing the modification times of unchanged files."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    for name in names:
        data = (ROOT / name).read_bytes()
        if name == "pyproject.toml":
            data += _settings(group, sorted({Path(each).parts[0] for each in names})).encode()
        if any(fnmatch(name, pattern) for pattern in group.modules):
            data = "".join(_undecorated(data.decode())).encode()
        target = folder / name
        if not target.exists() or target.read_bytes() != data:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            shutil.copymode(ROOT / name, target)


def _settings(group: Group, copied: Sequence[str]) -> str:
    """Returns mutmut's table for the copy's pyproject.toml."""
    told = {
        "source_paths": ["bundler"],
        "only_mutate": group.modules,
        "also_copy": [each for each in copied if each != "bundler"],
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-p", "no:xdist", *group.options],
        "pytest_add_cli_args_test_selection": group.tests,
        "timeout_multiplier": 6.0,
        "timeout_constant": 4.0,
        "use_git_change_detection": False,
        "on_dependency_change": "ignore",
    }
    return "\n[tool.mutmut]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in told.items())


def _undecorated(source: str) -> Iterator[str]:
    """Returns a module's lines with decorators applied by calls below the functions; nothing is cached."""
    lines = source.splitlines(keepends=True)
    dropped: set[int] = set()
    below: dict[int, str] = {}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef):
            continue
        made = [each for each in node.decorator_list if ast.unparse(each) not in UNDECORATED]
        for each in reversed(made):
            dropped.update(range(each.lineno, (each.end_lineno or each.lineno) + 1))
            if ast.unparse(each).partition("(")[0] in CACHES:
                continue
            indent = " " * node.col_offset
            last = node.end_lineno or 0
            below[last] = below.get(last, "") + f"{indent}{node.name} = {ast.unparse(each)}({node.name})\n"
    for number, line in enumerate(lines, 1):
        if number not in dropped:
            yield line
        if number in below:
            yield below[number]


def _names(folder: Path, group: Group, only: str, sample: int | None, seed: int) -> list[str]:
    """Returns the mutants of the group's modules that are to be tried."""
    from mutmut.configuration import reset_config
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.utils.format_utils import get_mutant_name

    names = []
    with chdir(folder):
        reset_config()
        for path in sorted(Path("bundler").rglob("*.py")):
            if fnmatch(str(path), only) and any(fnmatch(str(path), pattern) for pattern in group.modules):
                mutated = mutate_file_contents(str(path), path.read_text(encoding="utf-8"))
                names += [get_mutant_name(path, name) for name in mutated.mutant_names]
    if sample is None or sample >= len(names):
        return names
    return sorted(random.Random(seed).sample(names, sample))


def _results(folder: Path) -> dict[str, int]:
    """Returns mutmut's exit code for each tried mutant."""
    found: dict[str, int] = {}
    for path in (folder / "mutants").rglob("*.py.meta"):
        codes = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
        found |= {name: code for name, code in codes.items() if code is not None}
    return found


def _report(name: str, folder: Path, names: Sequence[str], *, show: bool) -> bool:
    """Prints the table; returns whether enough mutants were killed."""
    from mutmut.mutation.diff_apply import find_mutant, get_diff_for_mutant

    results = _results(folder)
    known = tomllib.loads((ROOT / "tools/equivalent.toml").read_text(encoding="utf-8"))["mutant"]
    counts: dict[str, Count] = {}
    total = Count()
    with chdir(folder):
        for each in names:
            counted = (counts.setdefault(each.rpartition(".")[0], Count()), total)
            killed = results.get(each) in KILLED
            diff = "" if killed else get_diff_for_mutant(each, path=find_mutant(each).path)
            changed = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in ("---", "+++")]
            equivalent = any(_is_known(each, changed, told) for told in known)
            for count in counted:
                count.tried += 1
                count.killed += killed
                count.equivalent += equivalent
            if not (killed or equivalent):
                for count in counted:
                    count.left.append("\n".join([f"{each} ({results.get(each, 'not tried')})", *changed]))
    print(f"{'module':<40}{'mutants':>9}{'killed':>9}{'equivalent':>12}{'left':>6}")
    for module, count in [*sorted(counts.items()), (f"{name} together", total)]:
        figures = f"{count.tried:>9}{count.killed:>9}{count.equivalent:>12}{len(count.left):>6}"
        print(f"{module:<40}{figures}{count.share:>8.1%}")
    if show:
        print("\n".join(["", *total.left]))
    return total.share >= ENOUGH


def _is_known(name: str, changed: Sequence[str], told: Mapping[str, Any]) -> bool:
    """Returns whether this is the mutant: of a function like `where`, with one of `is` replacing `was`."""
    before, after = (" ".join(line[1:].strip() for line in changed if line[0] == sign) for sign in "-+")
    cuts = [found.span() for found in re.finditer(re.escape(told["was"]), before)]
    made = {before[:start] + each + before[end:] for start, end in cuts for each in told["is"]}
    return fnmatch(name, told["where"]) and after in made


if __name__ == "__main__":
    raise SystemExit(main())
