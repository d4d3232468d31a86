"""What an attached agent's copy in another process tells: skrl's ParallelTrainer trains several agents like that.

The copy is tapped over there, where it is trained; its pipeline is here, in the process that has the run.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Client, Connection, Listener
from typing import Any, Final

from rl_logging.extraction import Pipeline

_LAST_WORDS_S: Final = 10.0
_BACKLOG: Final = 64


class Relay:
    """Listens to copies of one agent, one after the other: a trainer makes a new one in each training and evaluation.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
        pipeline: The attached agent's.
        heard: Told each step of the run that the copy speaks of.

    Attributes:
        address: Where the copy is to speak.
    """

    def __init__(self, logger: Any, pipeline: Pipeline, heard: Callable[[int], None]) -> None:
        self._logger = logger
        self._pipeline = pipeline
        self._heard = heard
        self._closed = False
        self._reached = threading.Event()
        # Only processes of one family have the key: what is unpickled elsewhere is not let in.
        self._key = multiprocessing.current_process().authkey
        self._listener = Listener(authkey=self._key, backlog=_BACKLOG)
        self.address: Any = self._listener.address
        self._thread = threading.Thread(target=self._listen, name="rl_logging-relay", daemon=True)
        self._thread.start()

    def hear_out(self) -> None:
        """Waits, within bounds, until every copy that has called was heard out."""
        self._reached.clear()
        self._knock()
        self._reached.wait(_LAST_WORDS_S)

    def close(self) -> None:
        """Ends the listening; a copy that has called is heard out first, within bounds."""
        self._closed = True
        self._knock()
        self._thread.join(_LAST_WORDS_S)

    def _knock(self) -> None:
        """Calls, behind those who have called before, and leaves."""
        try:
            Client(self.address).close()
        except OSError:
            self._reached.set()  # nobody listens any more

    def _listen(self) -> None:
        with self._listener:
            while not self._closed:
                try:
                    connection = self._listener.accept()
                except (EOFError, ConnectionError):
                    self._reached.set()  # a knock
                    continue
                except multiprocessing.AuthenticationError as error:
                    self._tell(error)
                    continue
                except OSError as error:
                    self._tell(error)
                    break
                with connection:
                    try:
                        self._hear_out(connection)
                    except OSError as error:
                        self._tell(error)  # of this one: the next may do better
        self._reached.set()

    def _tell(self, error: Exception) -> None:
        self._logger.warn_once("skrl/relay", f"an agent in another process is not logged: {error!r}")

    def _hear_out(self, connection: Connection) -> None:
        while True:
            try:
                message = connection.recv()
            except EOFError:
                return
            try:
                getattr(self, f"_on_{message[0]}")(*message[1:])
            except Exception as error:
                self._logger.warn_once("skrl/relay", f"an agent in another process: not logged: {error!r}")

    def _on_emit(
        self,
        records: list[tuple[str, Any, str | None]],
        step: int,
        prefix: str,
        values: Mapping[str, float],
        own: Mapping[str, float],
    ) -> None:
        for native, value, how in records:
            self._pipeline.record(native, value, how)
        self._pipeline.emit(step, prefix=prefix, values=values, own=own)
        self._heard(step)

    def _on_canonical(self, values: Mapping[str, float], step: int) -> None:
        self._pipeline.canonical(values, step)
        self._heard(step)

    def _on_model(self, path: Any, options: Mapping[str, Any]) -> None:
        self._logger.save_model(path, **options)

    def _on_warning(self, key: str, message: str) -> None:
        self._logger.warn_once(key, message)
