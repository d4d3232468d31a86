"""Where the metrics go: to MLflow's active run by journal and delivery, or to whatever has ``log_metrics``."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Protocol

from rl_logging import plugins
from rl_logging.logger import ExperimentLogger
from rl_logging.records import RunStatus
from rl_logging.run.summary import sync_command

_UNKNOWN = object()


Take = Callable[[dict[str, float], int], object]
"""Takes a row of metrics and its step, from any thread."""


class Destination(Protocol):
    """Takes rows of metrics."""

    def taker(self) -> Take:
        """Returns what takes a row of this moment, which may have to arrive from a device first."""
        ...

    def release(self) -> None:
        """Called by the training thread: what had to wait for that is done now."""
        ...

    def flush(self, timeout: float) -> bool:
        """Waits until the store has all rows; False where `timeout` seconds were not enough."""
        ...

    def close(self, status: RunStatus, timeout: float | None) -> None:
        """Takes nothing more, and delivers what is left."""
        ...


def destination(
    mlflow_module: Any,
    warn: Callable[[str, str], None],
    failed: Callable[[object, Exception], None],
    behind: Callable[[Callable[[], None]], None],
) -> Destination:
    """Returns where ``mlflow_module`` means.

    Args:
        mlflow_module: The mlflow module, or any object with ``log_metrics(metrics, step=...)``.
        warn: Called with a key and a message for the user.
        failed: Called with a row's step and what its logging has raised.
        behind: Calls what it is given once every row of before was taken.

    Raises:
        TypeError: It is neither.
        ImportError: The MLflow sink cannot be had.
    """
    if isinstance(mlflow_module, ModuleType) and mlflow_module.__name__ == "mlflow":
        try:
            plugins.load("mlflow", None)  # it is needed with the first row only, and training has begun by then
        except plugins.PluginError as error:
            raise ImportError(str(error)) from error
        return ActiveRun(mlflow_module, warn, behind)
    if callable(getattr(mlflow_module, "log_metrics", None)):
        return Called(mlflow_module, failed)
    raise TypeError(
        f"mlflow_module: got {mlflow_module!r}, must be the mlflow module, or an object with "
        "log_metrics(metrics, step=...)"
    )


class Called:
    """Calls ``log_metrics`` in the training thread; with what has arrived from a device, when that comes by again.

    Args:
        target: What has it.
        failed: Called with a row's step and what its logging has raised.
    """

    def __init__(self, target: Any, failed: Callable[[object, Exception], None]) -> None:
        self._target = target
        self._failed = failed
        self._rows: deque[tuple[dict[str, float], int]] = deque()

    def taker(self) -> Take:
        """See `Destination.taker`."""
        return lambda metrics, step: self._rows.append((metrics, step))

    def release(self) -> None:
        """See `Destination.release`."""
        while self._rows:
            metrics, step = self._rows.popleft()
            try:
                self._target.log_metrics(metrics, step=step)
            except Exception as error:
                self._failed(step, error)

    def flush(self, timeout: float) -> bool:
        """It has what it was called with."""
        return True

    def close(self, status: RunStatus, timeout: float | None) -> None:
        """There is nothing left."""


class ActiveRun:
    """Delivers to the run that is active in mlflow when a row comes, by a journal: nothing is sent from this thread.

    A row that comes when no run is active belongs to the one that was last; where none ever was, to a new run in
    mlflow's experiment, which is ended with this process. The user's own runs are never ended, nor set running again.

    Args:
        mlflow: The mlflow module.
        warn: Called with a key and a message for the user.
        behind: Calls what it is given once every row of before was taken.
    """

    def __init__(
        self, mlflow: Any, warn: Callable[[str, str], None], behind: Callable[[Callable[[], None]], None]
    ) -> None:
        self._mlflow = mlflow
        self._warn = warn
        self._behind = behind
        self._logger: ExperimentLogger | None = None
        self._run_id: object = _UNKNOWN
        self._uri = str(mlflow.get_tracking_uri())
        self._last = mlflow.active_run()
        self._config: list[Mapping[str, Any]] = []

    def taker(self) -> Take:
        """See `Destination.taker`."""
        active = self._mlflow.active_run()
        if active is not None and active is not self._last:
            self._last = active
            self._uri = str(self._mlflow.get_tracking_uri())
        run_id = None if self._last is None else self._last.info.run_id
        if self._logger is None or run_id != self._run_id:
            self._turn_to(run_id)
        assert self._logger is not None
        return self._logger.emit

    def release(self) -> None:
        """Nothing of it has to wait for the training thread."""

    def describe(self, values: Mapping[str, Any]) -> None:
        """Adds to the configuration of every run that rows go to."""
        self._config.append(values)
        if self._logger is not None:
            self._logger.add_config_defaults(values)

    def flush(self, timeout: float) -> bool:
        """See `Destination.flush`."""
        return self._logger is None or self._logger.flush(timeout)

    def close(self, status: RunStatus, timeout: float | None) -> None:
        """See `Destination.close`."""
        if self._logger is not None:
            self._end(self._logger, status, timeout)

    def _end(self, logger: ExperimentLogger, status: RunStatus = "finished", timeout: float | None = None) -> None:
        logger.finish(status, timeout)
        owed = sum(destination.pending for destination in logger.status().values())
        if owed:
            self._warn(
                f"mlflow owed {logger.run_dir}",
                f"MLflow does not have all metrics yet ({owed} records are owed): send them with\n"
                f"    $ {sync_command(logger.run_dir)}",
            )

    def _turn_to(self, run_id: str | None) -> None:
        before = self._logger
        options = {"tracking_uri": self._uri}
        name = None
        if run_id is not None:
            options["run_id"] = run_id
            name = getattr(self._last.info, "run_name", None) or None
        else:
            options["tracking_uri"] = str(self._mlflow.get_tracking_uri())
            self._warn(
                "mlflow no run",
                "no MLflow run is active: the metrics go to a run of their own in mlflow's experiment; train within "
                "'with mlflow.start_run():' to have them in yours",
            )
        self._logger = ExperimentLogger(name=name, sinks={"mlflow": options}, quiet=True)
        self._run_id = run_id
        for values in self._config:
            self._logger.add_config_defaults(values)
        if before is not None:
            # No daemon: what it has is delivered even if this process ends now.
            self._behind(threading.Thread(target=self._end, args=(before,), name="rl_logging-before").start)
