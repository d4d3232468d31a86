"""The logger as skrl's tap sees it, whose rows go on to MLflow."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rl_logging.adapters.skrl_mlflow.destinations import ActiveRun, destination
from rl_logging.adapters.skrl_mlflow.extracting import attributes
from rl_logging.extraction.names import NameTable
from rl_logging.logger import ExperimentLogger
from rl_logging.records import RunStatus
from rl_logging.run.arriving import ArrivingRecords
from rl_logging.run.device_copies import DeviceCopies, may_wait_beside_captures
from rl_logging.run.handle import bounded
from rl_logging.run.late_records import awaited, fill


class Relay(ExperimentLogger):
    """A logger without a run directory of its own: it names, reduces and filters, and hands rows on.

    What is emitted for one step is one row, handed on by `release`, or when the next step comes. Rows are handed on in
    their order; nobody waits for what one has on a device, and it stays here until that has arrived.

    Args:
        agent: Whose attributes are metrics too.
        mlflow_module: Where the rows go.
        settings: The settings, as in a configuration's section ``rl_logging``.

    Raises:
        TypeError: `mlflow_module` takes no metrics.
        ImportError: The MLflow sink cannot be had.
        SettingsError: A setting is wrong.
    """

    def __init__(self, agent: object, mlflow_module: Any, settings: Mapping[str, Any]) -> None:
        self._agent = agent
        self._destination = destination(mlflow_module, self.warn_once, self.failed, self._behind)
        self._arriving = ArrivingRecords(DeviceCopies(), may_wait_beside_captures, self.warn_once)
        self._asks_a_device = False
        self._row: dict[str, float] = {}
        self._later: dict[str, Any] = {}
        self._row_step: int | None = None
        super().__init__({"rl_logging": dict(settings)}, delivery="disabled", sinks=[], quiet=True)
        self._own = self.pipeline(NameTable({}))

    def begin(self, step: int) -> None:
        """Begins the row of `step`; one that was begun is handed on even if the agent's attributes are all it has."""
        if step != self._row_step:
            self.release()
            self._row_step = step

    def emit(self, values: dict[str, float], step: int | None, later: Mapping[str, Any] | None = None) -> None:
        """Adds to the row of `step`; `later` as in `rl_logging.ExperimentLogger`."""
        if self._run is None or step is None:
            return
        self.begin(step)
        self._row.update(values)
        self._later = {name: value for name, value in self._later.items() if name not in values} | dict(later or {})

    def fetch(self, tensors: Sequence[Any], then: Callable[[list[Any]], None]) -> None:
        """See `rl_logging.ExperimentLogger.fetch`."""
        self._asks_a_device = True
        self._arriving.hold(tensors, then, whole=True)

    def release(self) -> None:
        """Hands the row on; what goes wrong is told, and never reaches training."""
        step = self._row_step
        if step is not None:
            try:
                found = {name: value for name, value in attributes(self._agent) if name not in self._row}
                if found:
                    self._own.log(found, step)
                if self._row:
                    self._hand_on(self._row, self._later, step)
            except Exception as error:
                self.failed(step, error)
            finally:
                self._row, self._later, self._row_step = {}, {}, None
        self._destination.release()

    def _hand_on(self, row: dict[str, float], later: Mapping[str, Any], step: int) -> None:
        take = self._destination.taker()

        def complete(figures: list[float]) -> None:
            fill(row, later, figures)
            if row:
                take(row, step)

        self._when_arrived(awaited(later), complete)

    def _behind(self, action: Callable[[], None]) -> None:
        """Calls `action` once every row so far was handed on."""
        self._when_arrived([], lambda _: action())

    def _when_arrived(self, tensors: Sequence[Any], accept: Callable[[list[Any]], None]) -> None:
        """Has `accept` called with the tensors' figures, after all that was asked of a device before."""
        self._asks_a_device = self._asks_a_device or bool(tensors)
        if self._asks_a_device:
            self._arriving.hold(tensors, accept)
            self._arriving.take()
        else:
            accept([])

    def failed(self, step: object, error: Exception) -> None:
        """Tells of an error, once a kind."""
        self.warn_once(
            f"mlflow {type(error).__name__}", f"Failed to extract or log metrics at step {step}: {error or repr(error)}"
        )

    def add_config_defaults(self, values: Mapping[str, Any]) -> None:
        """Describes the algorithm in the run; other names are the user's own to log there."""
        if isinstance(self._destination, ActiveRun) and "algo" in values:
            self._destination.describe({"algo": values["algo"]})

    def flush(self, timeout: float = 10) -> bool:
        """Waits until the store has what was emitted so far."""
        deadline = time.monotonic() + timeout
        self.release()
        settled = self._arriving.settle(timeout)
        self._destination.release()
        return self._destination.flush(max(0.0, deadline - time.monotonic())) and settled

    def finish(self, status: RunStatus = "finished", timeout: float | None = None) -> None:
        """Ends the logging: emits the last window, and delivers what is left. Idempotent."""
        super().finish(status, timeout)
        self.release()
        deadline = time.monotonic() + bounded(self.settings.finish_timeout_s if timeout is None else timeout)
        self._arriving.close(max(0.0, deadline - time.monotonic()))
        self._destination.release()
        self._destination.close(status, max(0.0, deadline - time.monotonic()))

    def become_silent(self) -> None:
        """See `rl_logging.ExperimentLogger`."""
        super().become_silent()
        self._arriving.forget()
