"""The logger as skrl's tap sees it, whose rows go on to MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rl_logging.adapters.skrl_mlflow.destinations import ActiveRun, destination
from rl_logging.adapters.skrl_mlflow.extracting import attributes
from rl_logging.extraction.names import NameTable
from rl_logging.logger import ExperimentLogger
from rl_logging.records import RunStatus
from rl_logging.run.late_records import waited_for


class Relay(ExperimentLogger):
    """A logger without a run directory of its own: it names, reduces and filters, and hands rows on.

    What is emitted for one step is one row, handed on by `release`, or when the next step comes.

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
        self._destination = destination(mlflow_module, self.warn_once)
        self._row: dict[str, float] = {}
        self._row_step: int | None = None
        super().__init__({"rl_logging": dict(settings)}, delivery="disabled", sinks=[], quiet=True)
        self._own = self.pipeline(NameTable({}))

    def begin(self, step: int) -> None:
        """Begins the row of `step`; one that was begun is handed on even if the agent's attributes are all it has."""
        if step != self._row_step:
            self.release()
            self._row_step = step

    def emit(self, values: dict[str, float], step: int | None, later: Mapping[str, Any] | None = None) -> None:
        """Adds to the row of `step`; what is on a device is waited for."""
        if self._run is None or step is None:
            return
        self.begin(step)
        self._row.update(waited_for(values, later or {}))

    def fetch(self, tensors: Sequence[Any], then: Callable[[list[Any]], None]) -> None:
        """Waits for what is on a device."""
        then([tensor.cpu() for tensor in tensors])

    def release(self) -> None:
        """Hands the row on; what goes wrong is told, and never reaches training."""
        step = self._row_step
        if step is None:
            return
        try:
            found = {name: value for name, value in attributes(self._agent) if name not in self._row}
            if found:
                self._own.log(found, step)
            if self._row:
                self._destination.log(self._row, step)
        except Exception as error:
            self.failed(step, error)
        finally:
            self._row, self._row_step = {}, None

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
        self.release()
        return self._destination.flush(timeout)

    def finish(self, status: RunStatus = "finished", timeout: float | None = None) -> None:
        """Ends the logging: emits the last window, and delivers what is left. Idempotent."""
        super().finish(status, timeout)
        self.release()
        self._destination.close(status, timeout)
