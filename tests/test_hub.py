"""Tests downloads of models from a local hub into a folder; wrong names and network errors are reported in time."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bundler.errors import ModelInvalid
from bundler.model.hub import local_folder
from tests.conftest import quiet

SHA = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "tokenizer.json": b"{}",
    "vocab.txt": b"[PAD]\n",
    "README.md": b"# not needed",
    "onnx/model.onnx": b"not needed",
    "pytorch_model.bin": b"not needed where there are safetensors",
    "model-00001-of-00002.safetensors": b"one",
    "model-00002-of-00002.safetensors": b"two",
    "model.safetensors.index.json": b"{}",
}
CHILD = """
import json, sys
from bundler.errors import BundlerError
from bundler.model import hub
name, weights, timeout = json.loads(sys.argv[1])
hub.TIMEOUT_S = timeout
stages = []
try:
    folder = hub.local_folder(name, lambda *now: stages.append(now), weights=weights)
    found = {"files": sorted(p.name for p in folder.iterdir()), "stages": stages, "folder": str(folder)}
except BundlerError as error:
    found = {"error": type(error).__name__, "exit": error.exit_code, "said": str(error), "hint": error.hint}
print(json.dumps(found))
"""


class Hub(BaseHTTPRequestHandler):
    """The part of huggingface.co that a download needs."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        self.asked.append(f"{self.command} {self.path}")
        path = self.path.split("?")[0]
        if path.startswith("/api/models/"):
            self._model(path.removeprefix("/api/models/"))
        elif (file := path.partition("/resolve/")[2].partition("/")[2]) in FILES:
            etag = {"ETag": f'"{file}"', "X-Repo-Commit": SHA}
            self._send(200, FILES[file] if body else b"", {**etag, "Content-Length": str(len(FILES[file]))})
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})

    def _model(self, name: str) -> None:
        if name == "a/silent":
            time.sleep(20)
        codes = {"a/gated": (403, "GatedRepo"), "a/missing": (401, "RepoNotFound"), "a/broken": (500, "")}
        if name in codes:
            status, code = codes[name]
            self._send(status, b"{}", {"X-Error-Code": code})
            return
        names = ["README.md"] if name == "a/empty" else list(FILES)
        siblings = [{"rfilename": file, "size": len(FILES[file])} for file in names]
        self._send(200, json.dumps({"id": name, "sha": SHA, "siblings": siblings}).encode(), {})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def running_hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.asked.clear()
    with running_hub() as address:
        yield address


def fetch(home: Path, endpoint: str, name: str, *, weights: bool = True, timeout: float = 10) -> dict[str, Any]:
    """Fetches in a separate process, which must print nothing else and treats warnings as errors."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    command = [sys.executable, "-W", "error", "-c", CHILD, json.dumps([name, weights, timeout])]
    done = subprocess.run(command, env=kept | settings, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_the_files_that_count_are_fetched_and_kept(hub: str, tmp_path: Path) -> None:
    """Fetches without the weights, with them, and then again without a network."""
    found = fetch(tmp_path, hub, "a/b", weights=False)
    assert found["files"] == ["config.json", "tokenizer.json", "vocab.txt"]
    found = fetch(tmp_path, hub, "a/b")
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    assert found["files"] == ["config.json", *shards, "tokenizer.json", "vocab.txt"]
    assert found["stages"][0][0] == "asking huggingface.co for a/b"
    assert ["downloading vocab.txt (0.0 MB)", 2, 6] in found["stages"]
    assert all((Path(found["folder"]) / name).read_bytes() == FILES[name] for name in found["files"])
    assert not any("telemetry" in line for line in Hub.asked)
    offline = fetch(tmp_path, "http://127.0.0.1:9", "a/b")
    assert offline["files"] == found["files"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "exit_code", "said"),
    [
        ("a/missing", 3, "there is no such model on huggingface.co, or it is private"),
        ("a/gated", 3, "is a gated model"),
        ("a/empty", 3, "has no config.json on huggingface.co"),
        ("a/broken", 4, "huggingface.co gives no answer"),
    ],
)
def test_a_model_that_cannot_be_had(name: str, exit_code: int, said: str, hub: str, tmp_path: Path) -> None:
    found = fetch(tmp_path, hub, name)
    assert found["exit"] == exit_code
    assert found["said"].startswith(f"{name}: ")
    assert said in found["said"]


@pytest.mark.slow
def test_a_hub_that_is_silent_is_not_waited_for(hub: str, tmp_path: Path) -> None:
    begun = time.monotonic()
    found = fetch(tmp_path, hub, "a/silent", timeout=1)
    assert found["error"] == "HubUnreachable"
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize("weights", [True, False])
def test_no_hub_and_no_copy(weights: bool, tmp_path: Path) -> None:
    found = fetch(tmp_path, "http://127.0.0.1:9", "csarron/mobilebert-uncased-squad-v2", weights=weights)
    assert found["error"] == "HubUnreachable"
    assert found["exit"] == 4
    assert "there is no such folder here, and huggingface.co gives no answer" in found["said"]
    assert "give a folder" in found["hint"]


@pytest.mark.slow
def test_a_copy_without_weights_is_no_copy(hub: str, tmp_path: Path) -> None:
    fetch(tmp_path, hub, "a/b", weights=False)
    assert fetch(tmp_path, "http://127.0.0.1:9", "a/b")["error"] == "HubUnreachable"
    assert fetch(tmp_path, "http://127.0.0.1:9", "a/b", weights=False)["files"][0] == "config.json"


@pytest.mark.parametrize(
    "name", ["", "a/b/c", "../b", "a/..", "/nowhere", "a b/c", "https://huggingface.co/a/b", "a//b", "model.onnx"]
)
def test_what_is_neither_folder_nor_name_is_refused_at_once(name: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ModelInvalid, match="is not a folder, and not the name of a model"):
        local_folder(name, quiet)
    assert time.monotonic() - begun < 0.5


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    with pytest.raises(ModelInvalid, match="is not a folder"):
        local_folder(tmp_path / "model", quiet)


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert local_folder(str(tmp_path), quiet) == tmp_path
