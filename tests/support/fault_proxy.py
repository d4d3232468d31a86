"""An HTTP proxy in front of a real server that fails on demand: refuses, hangs, errs, drops, loses answers."""

from __future__ import annotations

import http.client
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

FORWARD_TIMEOUT_S = 60
REBIND_TRIES = 200

FaultKind = Literal["hang", "status", "drop", "lose answer", "hold", "hold and lose answer"]


class Request(NamedTuple):
    """What a client asked.

    Attributes:
        method: GET, POST, ...
        path: With the query.
        body: As it came.
    """

    method: str
    path: str
    body: bytes


class Hit(NamedTuple):
    """A request that met the fault.

    Attributes:
        at_s: When, by the monotonic clock.
        request: The request.
    """

    at_s: float
    request: Request


@dataclass(frozen=True)
class Fault:
    """What happens to requests.

    Attributes:
        kind: ``hang`` (no answer until the fault is lifted, then a cut), ``status`` (that answer instead of the
            server's), ``drop`` (cut before the server hears of it), ``lose answer`` (cut after the server has acted),
            ``hold`` (served once the fault is lifted), ``hold and lose answer``.
        where: Which requests; the others are served.
        most: How many of them; None: all.
        status: The answer's status.
        headers: The answer's further headers.
        body: The answer's body.
    """

    kind: FaultKind
    where: Callable[[Request], bool] = field(default=lambda request: True)
    most: int | None = None
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"a fault that a test put here"


class FaultProxy:
    """Passes requests on to a server on the loopback, unless a fault is put; use it in a ``with`` statement.

    Args:
        target: Returns the address of the server, such as ``http://127.0.0.1:5000``.
    """

    def __init__(self, target: Callable[[], str]) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._change = threading.Condition(self._lock)
        self._fault: Fault | None = None
        self._lifted = threading.Event()
        self._connections: set[socket.socket] = set()
        self._hits: list[Hit] = []
        self._served = 0
        self._down = False
        self._listener = _bound(0)
        self._port = int(self._listener.getsockname()[1])
        self._listen()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """What clients are told."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def hits(self) -> list[Hit]:
        """The requests that met the last fault put, in order."""
        with self._lock:
            return list(self._hits)

    @property
    def served(self) -> int:
        """How many requests were passed on and answered."""
        return self._served

    @property
    def troubled(self) -> bool:
        """Whether a fault is put, or it is down."""
        return self._down or self._fault is not None

    def put(self, fault: Fault) -> None:
        """From now on `fault` happens, instead of the one before."""
        with self._lock:
            before, self._lifted = self._lifted, threading.Event()
            self._fault = fault
            self._hits = []
        before.set()

    def lift(self) -> None:
        """Every request is served again; those that hang are cut."""
        with self._lock:
            self._fault = None
            lifted = self._lifted
        lifted.set()

    def go_down(self) -> None:
        """Cuts every connection and refuses new ones, as where the server's process is killed."""
        with self._lock:
            self._down = True
            self._hits = []
            for connection in self._connections:
                _cut(connection)
            listener = self._listener
        _cut(listener)
        listener.close()
        # Bound but not listening: the port stays ours, and connections to it are refused.
        self._listener = _bound(self._port)

    def come_up(self) -> None:
        """Takes connections again, on the same port."""
        with self._lock:
            self._down = False
        self._listen()

    def await_hits(self, count: int, timeout_s: float) -> None:
        """Waits until `count` requests have met the fault.

        Raises:
            TimeoutError: They have not within `timeout_s`.
        """
        with self._change:
            if not self._change.wait_for(lambda: len(self._hits) >= count, timeout_s):
                raise TimeoutError(f"{len(self._hits)} of {count} requests have met the fault in {timeout_s:g} s")

    def close(self) -> None:
        """Ends the proxy."""
        self.lift()
        if not self._down:
            self.go_down()
        self._listener.close()

    def _listen(self) -> None:
        self._listener.listen(128)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, address = listener.accept()
            except OSError:
                return
            with self._lock:
                if self._down:
                    connection.close()
                    return
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection, address), daemon=True).start()

    def _serve(self, connection: socket.socket, address: Any) -> None:
        try:
            _Handler(connection, address, self)  # type: ignore[arg-type]  # it needs no `BaseServer`
        except OSError:
            pass  # the client, or `go_down`, has cut the connection
        finally:
            with self._lock:
                self._connections.discard(connection)
            _cut(connection)
            connection.close()

    def judge(self, request: Request) -> tuple[Fault | None, threading.Event]:
        """Returns the fault that `request` meets, and what tells that it is lifted."""
        with self._change:
            fault = self._fault
            if fault is None or (fault.most is not None and len(self._hits) >= fault.most) or not fault.where(request):
                return None, self._lifted
            self._hits.append(Hit(time.monotonic(), request))
            self._change.notify_all()
            return fault, self._lifted

    def forward(self, request: Request, headers: Mapping[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
        """Returns the server's answer: status, headers, body."""
        where = urlsplit(self._target())
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=FORWARD_TIMEOUT_S)
        try:
            kept = {key: value for key, value in headers.items() if key.lower() not in _HOP_BY_HOP}
            connection.request(request.method, request.path, request.body or None, kept)
            answer = connection.getresponse()
            body = answer.read()
            self._served += 1
            return answer.status, [(k, v) for k, v in answer.getheaders() if k.lower() not in _HOP_BY_HOP], body
        finally:
            connection.close()


_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy  # type: ignore[assignment]

    def do_GET(self) -> None:
        request = Request(self.command, self.path, self._body())
        fault, lifted = self.server.judge(request)
        if fault is None:
            self._pass_on(request, answered=True)
        elif fault.kind == "hang":
            lifted.wait()
            self.close_connection = True
        elif fault.kind == "drop":
            self.close_connection = True
        elif fault.kind == "lose answer":
            self._pass_on(request, answered=False)
        elif fault.kind in ("hold", "hold and lose answer"):
            lifted.wait()
            self._pass_on(request, answered=fault.kind == "hold")
        else:
            self._answer(fault.status, [("Content-Type", "text/plain"), *fault.headers.items()], fault.body)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Stays silent."""

    def _pass_on(self, request: Request, *, answered: bool) -> None:
        try:
            status, headers, body = self.server.forward(request, dict(self.headers.items()))
        except (OSError, http.client.HTTPException):
            self.close_connection = True  # the server is gone
            return
        if answered:
            self._answer(status, headers, body)
        else:
            self.close_connection = True

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))


def _bound(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for _ in range(REBIND_TRIES):
        try:
            listener.bind(("127.0.0.1", port))
            return listener
        except OSError:
            select.select([], [], [], 0.02)  # the accepting thread is still letting go of the old one
    raise RuntimeError(f"port {port} cannot be bound again")


def _cut(connection: socket.socket) -> None:
    # Shutting down, unlike closing, also wakes the thread that reads from it.
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # not connected any more
