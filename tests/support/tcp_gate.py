"""A gate in front of a real server: shut, it cuts every connection, as an outage does, without ending the server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class TcpGate:
    """Forwards connections to a server on the loopback while it is open.

    Args:
        port: The server's port.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._shut = False
        self._refused = 0
        self._lock = threading.Lock()
        self._change = threading.Condition(self._lock)
        self._connections: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """The gate's own port."""
        return int(self._listener.getsockname()[1])

    @contextlib.contextmanager
    def shut(self) -> Iterator[None]:
        """Cuts what is connected, and whatever connects, until the end of the block."""
        with self._lock:
            self._shut = True
            for connection in self._connections:
                _cut(connection)
        try:
            yield
        finally:
            self._shut = False

    def wait_for_refused(self, more: int) -> None:
        """Waits until so many more connections were cut as they came."""
        with self._change:
            last = self._refused + more
            assert self._change.wait_for(lambda: self._refused >= last, 60), self._refused

    def close(self) -> None:
        """Ends the gate."""
        with self.shut():
            _cut(self._listener)
            self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._shut:
                    near.close()
                    self._refused += 1
                    self._change.notify_all()
                    continue
                far = socket.create_connection(("127.0.0.1", self._port), timeout=180)
                self._connections |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        _cut(source)
        _cut(sink)
        with self._lock:
            self._connections -= {source}
        source.close()


def _cut(connection: socket.socket) -> None:
    # Shutting down, unlike closing, also wakes the thread that reads from it.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
