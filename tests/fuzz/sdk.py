"""Fuzzes the inputs of `sdk get`: an archive, and a server's answers."""

import contextlib
import http.client
import io
from typing import Any

import requests
import requests.adapters
import urllib3

from bundler.sdk import remote
from bundler.sdk.archive import Archive
from bundler.types import silent
from tests.fuzz import work

ADDRESS = "http://127.0.0.1/sdk.zip"


def sdk_archive(data: bytes) -> None:
    """Reads the archive of an SDK: its directory and its files."""
    path, out = work.folder("sdk") / "sdk.zip", work.folder("sdk-files")
    path.write_bytes(data)
    with path.open("rb") as file, contextlib.closing(Archive(file, "sdk.zip", len(data))) as archive:
        try:
            done = archive.unpack(list(archive.entries), out, out, silent)
        except OSError:  # such as a name that is too long; `get_sdk` finds words for it
            return
        assert all((out / name).stat().st_size == size for name, (size, _) in done.items())


class _Answering(requests.adapters.HTTPAdapter):
    """Answers everything with the same bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        answer = http.client.HTTPResponse(self, method="GET")  # type: ignore[arg-type]
        try:
            answer.begin()
        except http.client.HTTPException as error:
            raise requests.ConnectionError(error) from error
        made = urllib3.HTTPResponse(
            body=answer, headers=urllib3.HTTPHeaderDict(answer.msg.items()), status=answer.status,
            reason=answer.reason, preload_content=False, original_response=answer, decode_content=False,
        )  # fmt: skip
        return self.build_response(request, made)

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self._data)


def sdk_answer(data: bytes) -> None:
    """Reads the SDK server's answers to each request."""
    source = remote.Remote(ADDRESS, user_agent="fuzz", timeout_s=1)
    source._session.mount("http://", _Answering(data))
    limits, remote.LONGEST_PAUSE_S = remote.LONGEST_PAUSE_S, 0.0
    with contextlib.closing(source):
        try:
            source.find()
            if source.gives_parts:
                source.seek(0)
            source.read()
        finally:
            remote.LONGEST_PAUSE_S = limits
