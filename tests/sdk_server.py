"""Imitates the server of Qualcomm's public place, and makes archives of synthetic files with an SDK's layout.

The first address redirects once to another ("the gateway"), which supports ranges, and answers 403 to HEAD and to some
user agents. Everything is on 127.0.0.1.
"""

import http.server
import random
import re
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

VERSION = "2.99.0.270101"
HEXAGONS = (66, 68, 69, 73, 75, 79, 81)
PIECE = 1 << 16
HOSTS = ("aarch64-oe-linux-gcc11.2", "aarch64-ubuntu-gcc9.4", "x86_64-windows-msvc")


def sdk_files(unit: int = 200) -> dict[str, int]:
    """Returns path below the SDK's root -> size, in alphabetical order; `unit` is a small library's size."""
    android, hexagon = "aarch64-android", "lib/hexagon-v{0}/unsigned/lib{1}.so"
    sizes = {
        "LICENSE.pdf": 3 * unit, "NOTICE.txt": unit, "QNN_NOTICE.txt": unit, "ReleaseNotes.txt": unit,
        "sdk.yaml": 0, "bin/envsetup.sh": unit,
        **{f"bin/{android}/{name}": 3 * unit for name in ("snpe-net-run", "qnn-net-run", "genie-t2t-run")},
        **{f"bin/x86_64-linux-clang/{name}": 2 * unit for name in ("snpe-onnx-to-dlc", "qnn-net-run")},
        **{f"bin/{host}/snpe-net-run": 3 * unit for host in HOSTS},
        **{f"docs/QNN/page_{number:03}.html": unit // 10 for number in range(40)},
        **{f"lib/{android}/lib{name}.so": 20 * unit for name in (
            "Genie", "SNPE", "SnpeHtpPrepare", "QnnHtp", "QnnHtpPrepare", "QnnCpu", "QnnGpu", "QnnSystem",
            "QnnGenAiTransformer", "QnnModelDlc", "QnnTFLiteDelegate",
        )},
        **{
            f"lib/{android}/lib{kind}{'Htp' if v > 66 else 'Dsp'}V{v}Stub.so": 2 * unit
            for v in HEXAGONS for kind in ("Snpe", "Qnn")
        },
        **{
            hexagon.format(v, name.format("Htp" if v > 66 else "Dsp", v)): 10 * unit
            for v in HEXAGONS for name in ("Snpe{}V{}Skel", "Qnn{}V{}Skel", "Qnn{}V{}", "Calculator_skel")
        },
        "lib/python/qti/aisw/converters.py": unit, "lib/x86_64-linux-clang/libDlcConverter.so": 9 * unit,
        **{f"lib/{host}/libSNPE.so": 20 * unit for host in HOSTS},
    }  # fmt: skip
    return dict(sorted(sizes.items()))


def write_archive(
    path: Path, contents: Mapping[str, bytes] | None = None, version: str = VERSION, unit: int = 200
) -> Path:
    """Writes an SDK's archive; `contents` replaces or adds files."""
    made = random.Random(unit)
    files = {name: made.randbytes(size) for name, size in sdk_files(unit).items()}
    files["sdk.yaml"] = f"version: {version}\n".encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**files, **(contents or {})}.items():
            info = zipfile.ZipInfo(f"qairt/{version}/{name}")
            info.external_attr = 0o100755 << 16 if name.startswith("bin/") else 0o100644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


@dataclass
class Request:
    method: str
    path: str
    span: str
    agent: str
    sent: int = 0


@dataclass
class SdkServer:
    """Serves `archive` for every requested version; the other fields are the server's faults."""

    archive: Path
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    gives_ranges: bool = True
    front: tuple[int, str] = (302, "")  # status, where it leads to; empty: the gateway
    status: int = 0  # of the gateway, in place of the archive
    kind: str = "application/zip"
    page: bytes = b""
    cuts: list[int] = field(default_factory=list)  # after how many bytes the next answers with parts end
    before_data: Callable[[int], None] = lambda _: None  # told the number of the request

    @property
    def sent(self) -> int:
        return sum(request.sent for request in self.requests)

    @property
    def mirror(self) -> str:
        return f"{self.url}/front"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    told: SdkServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._note()
        self._answer(403)

    def do_CONNECT(self) -> None:
        self._note()
        self._answer(403)

    def do_GET(self) -> None:
        told, request = self.told, self._note()
        if "/front/" in self.path:
            status, where = told.front
            self._answer(status, {"Location": where or self.path.partition("/front/")[2].join(("/gateway/", ""))})
        elif re.match(r"curl|Wget", request.agent):
            self._answer(403, page=b"<html>Forbidden")
        elif told.status or told.page:
            self._answer(told.status or 200, {"Content-Type": told.kind}, told.page)
        else:
            told.before_data(len(told.requests))
            self._give(request)

    def _note(self) -> Request:
        told = Request(self.command, self.path, self.headers.get("Range", ""), self.headers.get("User-Agent", ""))
        self.told.requests.append(told)
        return told

    def _answer(self, status: int, headers: Mapping[str, str] | None = None, page: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(page)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page)

    def _give(self, request: Request) -> None:
        told, size = self.told, self.told.archive.stat().st_size
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.span)
        start, end = (int(found[1]), min(int(found[2]) + 1, size)) if found and told.gives_ranges else (0, size)
        self.send_response(206 if found and told.gives_ranges else 200)
        if found and told.gives_ranges:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Content-Type", told.kind)
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        cut = told.cuts.pop(0) if told.cuts and end - start > 4 else 0
        with told.archive.open("rb") as file:
            file.seek(start)
            left = min(end - start, cut or end - start)
            while left:
                piece = file.read(min(PIECE, left))
                self.wfile.write(piece)
                request.sent += len(piece)
                left -= len(piece)
        self.close_connection = bool(cut)


@contextmanager
def sdk_server(archive: Path) -> Iterator[SdkServer]:
    told = SdkServer(archive)
    handler = type("HandlerOfOne", (Handler,), {"told": told})

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Ignores clients that disconnect."""

    with Quiet(("127.0.0.1", 0), handler) as server:
        told.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()
