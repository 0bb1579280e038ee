"""The page of ``unlabel try``: served to this machine's browser alone, by the standard library.

What arrives is hostile until proven otherwise. The server listens on 127.0.0.1 only. It answers only if the
address holds its random word, and if the header ``Host`` is its own, so that no other site's page reaches it.
A picture is bounded before it is read, decoded in memory by the limits of `data.images.decoding`, and
forgotten with its answer. Nothing is written to a disk, and nothing is logged.
"""

import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

MOST_BYTES = 20_000_000
"""Of an upload."""

_SECONDS = 20  # that a connection may say nothing
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Upload(NamedTuple):
    """A file that a form sent."""

    content: bytes


class Refused(Exception):
    """A request that is not answered as asked; the message is one line for its sender."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Pages:
    """What the server shows.

    Args:
        drawing: ``number -> HTML``, a drawing of the data with its answers; any whole number >= 0.
        picture: ``bytes -> HTML``, the user's own picture with its answers.
        word: Random text in every address.
    """

    drawing: Callable[[int], str]
    picture: Callable[[bytes], str]
    word: str = field(default_factory=lambda: secrets.token_urlsafe(24))


class Server(ThreadingHTTPServer):
    """Listens on 127.0.0.1; one request at a time reaches the models."""

    daemon_threads = True

    def __init__(self, pages: Pages, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.pages, self.lock = pages, Lock()

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://127.0.0.1:{self.server_port}/{self.pages.word}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that closes a connection is no fault; anything else is one of ours, and is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers ``GET /WORD/?drawing=N`` and ``POST /WORD/`` with a form's file."""

    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = _SECONDS
    server_version, sys_version = "unlabel", ""

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Logs nothing."""

    def do_GET(self) -> None:
        """Shows a drawing."""
        self._answer(lambda: partial(self.server.pages.drawing, self._number()))

    def do_POST(self) -> None:
        """Shows the picture of the form."""
        self._answer(lambda: partial(self.server.pages.picture, self._upload().content))

    def _answer(self, read: Callable[[], Callable[[], str]]) -> None:
        """Reads what is asked, then makes the page, one at a time: a slow sender holds up no other."""
        try:
            self._check()
            make = read()
            with self.server.lock:
                text, status = make(), HTTPStatus.OK
        except Refused as refused:
            text, status = f"{refused}\n", refused.status
        content = text.encode("utf-8", "backslashreplace")
        self.send_response(status)
        kind = "html" if status == HTTPStatus.OK else "plain"
        for name, value in {**_HEADERS, "Content-Type": f"text/{kind}; charset=utf-8"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _check(self) -> None:
        """Refuses a request of another site's page, or of somebody who does not know the word."""
        port = self.server.server_port
        hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        origin = self.headers.get("Origin")
        if self.headers.get_all("Host") not in [[host] for host in hosts]:
            raise Refused(
                HTTPStatus.MISDIRECTED_REQUEST, "this is another server; open the address as printed"
            )
        if origin is not None and origin not in [f"http://{host}" for host in hosts]:
            raise Refused(HTTPStatus.FORBIDDEN, "this request comes from another page")
        path = urlsplit(self.path).path
        if not secrets.compare_digest(path.encode(), f"/{self.server.pages.word}/".encode()):
            raise Refused(HTTPStatus.NOT_FOUND, "nothing is here; open the whole address as printed")

    def _number(self) -> int:
        values = parse_qs(urlsplit(self.path).query).get("drawing", ["0"])
        if len(values) != 1 or not (values[0].isascii() and values[0].isdecimal()) or len(values[0]) > 9:
            raise Refused(HTTPStatus.BAD_REQUEST, "drawing is no whole number of up to nine digits")
        return int(values[0])

    def _upload(self) -> Upload:
        """The file that the form sent; no more is read than an upload may have."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "the upload does not say how long it is")
        if len(length) > 12 or int(length) > MOST_BYTES:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the picture is larger than {MOST_BYTES:,} bytes; use a smaller one",
            )
        kind = self.headers.get("Content-Type", "")
        if not kind.startswith("multipart/form-data"):
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected the form of this page")
        body = self.rfile.read(int(length))
        return Upload(_file_of(kind, body))


def _file_of(kind: str, body: bytes) -> bytes:
    """The content of the one file in a form's body."""
    head = f"Content-Type: {kind}\r\n\r\n".encode("latin-1", "replace")
    message = message_from_bytes(head + body, policy=policy.HTTP)
    payload = message.get_payload()
    files = [
        part.get_payload(decode=True)
        for part in (payload if isinstance(payload, list) else [])
        if not isinstance(part, str) and part.get_param("name", header="content-disposition") == "picture"
    ]
    content = files[0] if len(files) == 1 else None
    if not isinstance(content, bytes) or not content:
        raise Refused(HTTPStatus.BAD_REQUEST, "no picture was sent; go back and choose a file")
    return content
