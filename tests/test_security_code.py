"""Tests the claims of docs/security.md about the code: what it never does, and which processes it starts."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bundler"
NO_IMPORT = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "commands", "pty"}
NO_CALL = {
    "eval", "exec", "compile", "__import__", "execfile", "os.system", "os.popen", "os.startfile",
    "subprocess.getoutput",
    "subprocess.getstatusoutput", "asyncio.create_subprocess_shell", "importlib.import_module", "runpy.run_path",
    "runpy.run_module", "shutil.unpack_archive", "torch.hub.load", "ctypes.cdll.LoadLibrary", "os.tempnam",
}  # fmt: skip
STARTS = re.compile(
    r"subprocess\.(run|Popen|call|check_call|check_output)|os\.(posix_spawnp?|fork|forkpty|exec[lv]p?e?|spawn\w+)"
    r"|multiprocessing\.\w+|(asyncio\.)?create_subprocess_exec|(concurrent\.futures\.)?ProcessPoolExecutor"
)
LOADS = re.compile(r"(C|ctypes)\.(CDLL|PyDLL|WinDLL|OleDLL)|.*\.register_custom_ops_library|.*\.dlopen")

# each start of a process: the file, the call, and what it runs
PROCESSES = {
    ("device/phone.py", "subprocess.run"): "adb, to start its server",
    ("device/server.py", "subprocess.Popen"): "adb, as a server of one's own",
    ("device/server.py", "subprocess.run"): "adb, to make the user's key",
    ("dlc/inspect.py", "subprocess.run"): "this Python: the child that reads a DLC",
    ("model/convert.py", "subprocess.run"): "this Python: the child that writes a DLC",
    ("dlc/child.py", "subprocess.Popen"): "this Python: the child that runs a DLC",
    ("model/vendor.py", "subprocess.Popen"): "a converter of the SDK that the user named",
    ("evaluation/latency.py", "subprocess.run"): "snpe-diagview of the SDK that the user named",
    ("virtual/phones.py", "os.posix_spawn"): "this Python: the virtual phone",
    ("virtual/children.py", "os.fork"): "the virtual phone's sessions",
    ("virtual/shell.py", "os.execve"): "this computer's sh, confined: the virtual phone's shell",
    ("virtual/net_program.py", "subprocess.run"): "getprop, where a stand-in runs on a phone of genuine parts",
}


class Call(NamedTuple):
    """A call in a file, with `name` as written there."""

    file: str
    line: int
    name: str
    node: ast.Call


def calls(tree: ast.AST, file: str = "x.py") -> Iterator[Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield Call(file, node.lineno, ast.unparse(node.func), node)


def _keyword(call: Call, name: str) -> str | None:
    return next((ast.unparse(each.value) for each in call.node.keywords if each.arg == name), None)


def _first(call: Call) -> ast.expr | None:
    return call.node.args[0] if call.node.args else None


def offences(source: str, file: str = "x.py") -> list[str]:
    """Returns what in a file's source may run foreign code."""
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [f"{file}: imports {name}" for name in names if name.partition(".")[0] in NO_IMPORT]
    for call in calls(tree, file):
        found += [f"{file}:{call.line}: {what}" for what, is_so in RULES.items() if is_so(call)]
    return found


def _is_text(node: ast.expr | None) -> bool:
    """Returns whether a command is a single text, which is for a shell."""
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


RULES: dict[str, Callable[[Call], bool]] = {
    "runs text as code": lambda call: call.name in NO_CALL,
    "a shell": lambda call: _keyword(call, "shell") not in (None, "False"),
    "a command that is no list": lambda call: bool(STARTS.fullmatch(call.name)) and _is_text(_first(call)),
    "code of a model": lambda call: _keyword(call, "trust_remote_code") not in (None, "False"),
    "an Auto class that is not told to trust nobody": lambda call: (
        bool(re.search(r"Auto\w+\.from_pretrained$", call.name)) and _keyword(call, "trust_remote_code") != "False"
    ),
    "weights that may be code": lambda call: (
        (
            call.name.endswith("Model.from_pretrained")
            or bool(re.search(r"(AutoModel\w*\.from_pretrained|torch\.load)$", call.name))
        )
        and _keyword(call, "weights_only") != "True"
    ),
    "arrays that may be pickles": lambda call: _keyword(call, "allow_pickle") not in (None, "False"),
    "a foreign library": lambda call: call.name.endswith("register_custom_ops_library"),
    "an archive unpacked by its own names": lambda call: call.name.rpartition(".")[2] in ("extract", "extractall"),
}

OFFENDERS = (
    "import pickle", "from marshal import loads", "import yaml.loader", "eval(x)", "exec(x)", "compile(x, y, z)",
    "os.system(x)", "os.popen(x)", "subprocess.run(x, shell=True)", "subprocess.run('ls')",
    "subprocess.Popen(f'ls {x}')",
    "__import__(x)", "importlib.import_module(x)", "A.from_pretrained(x, trust_remote_code=True)",
    "transformers.AutoTokenizer.from_pretrained(x)", "AutoModel.from_pretrained(x, trust_remote_code=False)",
    "torch.load(x)", "torch.load(x, weights_only=False)", "np.load(x, allow_pickle=True)", "tar.extractall(x)",
    "archive.extract(x)", "shutil.unpack_archive(x)", "options.register_custom_ops_library(x)",
)  # fmt: skip
INNOCENT = """
import json, tarfile
re.compile(x)
json.load(x)
subprocess.run(command, shell=False)
subprocess.run(["ls", x])
np.load(x, allow_pickle=False)
torch.load(x, weights_only=True)
"""


def sources() -> list[tuple[str, str]]:
    return [(path.relative_to(PACKAGE).as_posix(), path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))]


@pytest.mark.parametrize("source", OFFENDERS)
def test_an_offender_is_seen(source: str) -> None:
    assert offences(source)


def test_no_code_of_others_is_run() -> None:
    """The code uses no eval, pickle or shell, no code that comes with a model, no library that a model names."""
    assert offences(INNOCENT) == []
    files = sources()
    assert len(files) > 100
    assert [offence for file, source in files for offence in offences(source, file)] == []


def test_every_start_of_a_process_is_known() -> None:
    started = {
        (file, call.name)
        for file, source in sources()
        for call in calls(ast.parse(source), file)
        if STARTS.fullmatch(call.name)
    }
    assert started == set(PROCESSES)


def test_the_page_lists_every_start_of_a_process() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/.]+)` \| ([^|]+) \|$", page, flags=re.MULTILINE)
    assert rows == [(f"bundler/{file}", what) for (file, _), what in PROCESSES.items()]


def test_libraries_come_from_the_vendors_wheel_only() -> None:
    """All libraries loaded by name are in the folder of the installed onnxruntime-qnn.

    CDLL(None) is the C library, which Python itself has loaded.
    """
    loaded = [
        (call.file, ast.unparse(call.node))
        for file, source in sources()
        for call in calls(ast.parse(source), file)
        if LOADS.fullmatch(call.name) and ast.unparse(call.node.args[0]) != "None"
    ]
    assert {file for file, _ in loaded} == {"dlc/qnn.py"}
    assert all("library_folder() / library" in text for _, text in loaded)


def test_one_place_reads_a_phones_archives() -> None:
    """Nothing uses `tarfile`, which writes files by an archive's names."""

    def users(module: str) -> set[str]:
        pattern = re.compile(rf"^\s*(import {module}|from {module} import)", re.MULTILINE)
        return {file for file, source in sources() if pattern.search(source)}

    assert users("tarfile") == set()
    writers = {"commands/field_report.py"}
    assert users("zipfile") <= {"dlc/archive.py", "model/convert.py", "bundle/arrays.py", "sdk/archive.py"} | writers
    assert users("bundler.device.tarball") == {"device/outputs.py"}


def test_html_is_escaped() -> None:
    """The environment for HTML escapes; the other one writes shell scripts, the input list and JSON."""
    made = {
        call.file: _keyword(call, "html" if call.name == "templates" else "autoescape")
        for file, source in sources()
        for call in calls(ast.parse(source), file)
        if call.name.endswith("jinja2.Environment") or call.name in ("Environment", "templates")
    }
    assert made == {
        "resources.py": "html",
        "report/page.py": "True",
        "pipeline/build.py": "False",
        "pipeline/ask.py": "False",
        "device/htp_settings.py": "False",
    }
    from bundler.report.page import _environment

    template = _environment().from_string("<p title='{{ text }}'>{{ text }}</p>")
    hostile = "'\"<script>&"
    assert template.render(text=hostile) == "<p title='{0}'>{0}</p>".format("&#39;&#34;&lt;script&gt;&amp;")
    page = (ROOT / "templates" / "report.html.j2").read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe\b|autoescape\s+false", page)


def test_what_the_page_names_is_there() -> None:
    """Each sentence of docs/security.md names its test."""
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 20
    for file, test in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert test in functions, f"{file}::{test}"
    rules = [line for line in page.splitlines() if line.startswith("- ")]
    assert len(rules) > 15
    for rule in re.findall(r"^- (?:.*\n)(?:  .*\n)*", page, flags=re.MULTILINE):
        assert "`tests/" in rule, rule
