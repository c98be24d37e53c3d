"""Reads a remote archive like a file, by range requests. Uses GET only and limits everything.

Uses the library requests, which reads the variables of proxies and certificates. PyPI's remotezip uses it too, but
requests every entry separately, cannot resume in the middle of one, and has no limits.
"""

import contextlib
import re
import time
from collections.abc import Iterable, Sequence
from urllib.parse import urljoin

import requests
import urllib3.exceptions

from bundler.errors import ArchiveInvalid, SdkUnreachable, UsageError
from bundler.model.hub import short_reason
from bundler.sdk.selection import joined
from bundler.sdk.versions import checked_address, shown

CONNECT_S, STALL_S = 20.0, 30.0
TRIES, ALL_TRIES = 5, 50  # attempts without a byte in between; and in total
PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0  # doubled with each attempt
CHUNK = 1 << 18
TAIL_BYTES = 1 << 20  # the archive's directory lies at its end
FEW_BYTES = 1 << 14
DIRECTORY_BYTES = 1 << 26  # larger than any genuine directory
START = b"PK\x03\x04"
REDIRECTS, PASSING = (301, 302, 303, 307, 308), (408, 425, 429, 500, 502, 503, 504)
LENGTH = re.compile(r"[1-9]\d{0,14}", re.ASCII)
SPAN = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")
BY_HAND = "Or download it by browser, and give it with --zip FILE."
HINTS = {
    403: f"Some user agents are refused: try --user-agent Mozilla/5.0. {BY_HAND}",
    404: "Check the version (`mbqa-bundle sdk list` names some) and --mirror.",
    407: "The proxy wants a name and a password: HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT.",
}
NO_NETWORK = f"Check the network (HTTPS_PROXY, REQUESTS_CA_BUNDLE), or name a copy with --mirror. {BY_HAND}"
GO_ON = "The same command goes on from there."


class PassingError(Exception):
    """An error that may be gone at the next attempt; `wait_s` is the wait that the server asks for."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _Session(requests.Session):
    """A session that ignores redirects; requests would read their pages to the end, even if they are not followed."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        return None


class Remote:
    """The archive: `size` is its length in bytes; `received` counts bytes, in `requests` requests; `gives_parts` tells
    whether the server sends parts of it, known after the first read.

    Raises (from everything):
        SdkUnreachable: the server does not answer, refuses, or the time is over; ArchiveInvalid: it has no archive.
    """

    def __init__(self, url: str, *, user_agent: str, timeout_s: float, insecure: bool = False) -> None:
        self.name = shown(checked_address(url, insecure=insecure))
        self.size = self.received = self.requests = 0
        self.gives_parts = True
        self._given = self._url = url
        self._insecure, self._timeout_s = insecure, timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._session = _Session()
        self._session.headers.update({"User-Agent": user_agent, "Accept": "*/*", "Accept-Encoding": "identity"})
        self._answer: requests.Response | None = None
        self._from = self._to = self._at = 0  # the current position and end of the answer, and the reader's position
        self._planned: Sequence[tuple[int, int]] = ()
        self._tail_at, self._tail = 0, b""
        self._failures = self._all_failures = 0

    def close(self) -> None:
        self._leave()
        self._session.close()

    def find(self) -> None:
        """Reads the first bytes to learn the size; if the server gives parts, also reads the end. Otherwise the rest
        must be read in order, to the end."""
        self._planned = [(0, len(START))]
        if self.read(len(START)) != START:
            raise ArchiveInvalid(self.name, "is not a zip archive", BY_HAND)
        if not self.gives_parts:
            return
        start = max(0, self.size - TAIL_BYTES)
        self._planned = [(start, self.size)]
        self.seek(start)
        self._tail_at, self._tail = start, self.read(self.size - start)

    def plan(self, pieces: Iterable[tuple[int, int]]) -> None:
        """Announces the pieces that are read next, in this order, so that they need few requests."""
        self._planned = joined((start, min(end, self._tail_at)) for start, end in pieces if start < self._tail_at)

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self.size)[whence]
        if self._at < 0:
            raise ValueError("before the beginning")
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._at + size if size >= 0 else self.size
        end = min(end, self.size) if self.size else end
        if end - self._at > DIRECTORY_BYTES:
            raise ArchiveInvalid(self.name, f"declares a directory of {(end - self._at) / 1e6:.0f} MB")
        pieces = bytearray()
        while self._at < end:
            if self._tail and self._at >= self._tail_at:
                piece = self._tail[self._at - self._tail_at : end - self._tail_at]
            else:
                piece = self._piece(min(end, self._tail_at) if self._tail else end)
            pieces += piece
            self._at += len(piece)
        return bytes(pieces)

    def _piece(self, end: int) -> bytes:
        """Returns some bytes from the reader's position on; reconnects there after a cut connection."""
        while True:
            try:
                if self._answer is None or not self._from <= self._at < self._to:
                    self._open(end)
                while self._from < self._at:  # files between the wanted ones
                    self._next(self._at - self._from)
                return self._next(end - self._at)
            except PassingError as error:
                self._leave()
                self._again(error)

    def _open(self, end: int) -> None:
        while 0 < self._to - self._from <= FEW_BYTES and self._answer is not None:
            self._next(FEW_BYTES)  # so that the connection can be reused
        self._leave()
        end = next((last for first, last in self._planned if first <= self._at < last), end)
        answer = self._answer = self._ask(f"bytes={self._at}-{end - 1}")
        if answer.status_code != 206:
            self._take_whole(answer)
            return
        found = SPAN.fullmatch(answer.headers.get("Content-Range", ""))
        if not found or int(found[1]) != self._at or not self._at <= int(found[2]) < min(end, int(found[3])):
            raise PassingError(f"it answers with another part: {answer.headers.get('Content-Range', '')[:60]!r}")
        self._from, self._to = int(found[1]), int(found[2]) + 1
        self._set_size(int(found[3]))

    def _take_whole(self, answer: requests.Response) -> None:
        """Uses an answer that begins with the first byte, whatever was requested; `_piece` skips the bytes before."""
        if self.size and self.gives_parts:
            raise PassingError("it gives no parts any more")
        length = answer.headers.get("Content-Length", "")
        if not LENGTH.fullmatch(length):
            raise SdkUnreachable(self.name, "it does not say how long the archive is", BY_HAND)
        self.gives_parts, self._from, self._to = False, 0, int(length)
        self._set_size(int(length))

    def _set_size(self, size: int) -> None:
        if self.size not in (0, size):
            raise ArchiveInvalid(self.name, "was replaced while it was fetched", "Run the command again.")
        self.size = size

    def _next(self, most: int) -> bytes:
        """Returns the next received bytes of the answer."""
        assert self._answer is not None
        self._left_s()
        try:
            piece: bytes = self._answer.raw.read1(min(most, CHUNK, self._to - self._from))
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise PassingError(_reason(error)) from error
        if not piece:
            raise PassingError("the connection was cut")
        self._from += len(piece)
        self.received += len(piece)
        self._failures = 0
        return piece

    def _ask(self, span: str) -> requests.Response:
        """Returns the answer, after one redirect at most; remembers its address for the next request."""
        url = self._url
        for _ in range(2):
            limits = (min(CONNECT_S, self._left_s()), min(STALL_S, self._left_s()))
            try:
                answer = self._session.get(url, headers={"Range": span}, stream=True, timeout=limits)
            except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
                if not self.requests:
                    raise SdkUnreachable(self.name, _reason(error), NO_NETWORK) from error
                raise PassingError(_reason(error)) from error
            self.requests += 1
            if answer.status_code not in REDIRECTS:
                self._url = url
                with contextlib.ExitStack() as stack:
                    stack.callback(answer.close)
                    self._judge(answer)
                    stack.pop_all()
                return answer
            answer.close()
            url = self._led(url, answer.headers.get("Location", ""))
        raise SdkUnreachable(self.name, f"too many redirects, the last to {shown(url)}", BY_HAND)

    def _led(self, url: str, location: str) -> str:
        try:
            return checked_address(urljoin(url, location), insecure=self._insecure)
        except (UsageError, ValueError) as error:
            hint = f"Where a network has a page to sign in, open it in a browser first. {BY_HAND}"
            raise SdkUnreachable(self.name, f"it leads to {error}", hint) from error

    def _judge(self, answer: requests.Response) -> None:
        status = answer.status_code
        if status in (200, 206):
            if "html" in answer.headers.get("Content-Type", "").lower():
                hint = f"Where a network has a page to sign in, open it in a browser first. {BY_HAND}"
                raise SdkUnreachable(self.name, "it answers with a web page instead of the archive", hint)
            return
        reason = f"it answers {status} {answer.reason or ''}".strip()
        if status in PASSING or (status in (401, 403) and self.size):  # an address from a redirect expires
            wait = answer.headers.get("Retry-After", "")
            raise PassingError(reason, float(wait) if wait.isdecimal() else 0.0)
        raise SdkUnreachable(self.name, reason, HINTS.get(status, BY_HAND))

    def _again(self, error: PassingError) -> None:
        """Waits before the next attempt; raises SdkUnreachable after too many."""
        self._failures += 1
        self._all_failures += 1
        self._url = self._given
        pause = min(max(error.wait_s, PAUSE_S * 2 ** (self._failures - 1)), LONGEST_PAUSE_S)
        if self._failures >= TRIES or self._all_failures >= ALL_TRIES:
            raise SdkUnreachable(self.name, f"{error} ({self._failures} tries)", GO_ON) from error
        time.sleep(min(pause, self._left_s()))

    def _left_s(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise SdkUnreachable(self.name, f"{self._timeout_s:g} s are over (--timeout)", GO_ON)
        return left

    def _leave(self) -> None:
        """Ends the answer; keeps the connection for the next request if the answer was read to its end."""
        if self._answer is not None:
            if self._from == self._to:
                self._answer.raw.release_conn()
            else:
                self._answer.close()
            self._answer = None


def _reason(error: BaseException) -> str:
    """Returns the message of the innermost error: the operating system's or the proxy's."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return short_reason(error)
