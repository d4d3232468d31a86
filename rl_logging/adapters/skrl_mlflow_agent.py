"""Logging a skrl agent's metrics to MLflow by one wrapper around its update method.

.. code-block:: python

    with mlflow.start_run():
        runner = Runner(env, cfg)
        runner.agent._update = create_mlflow_logging_wrapper(runner.agent, mlflow)
        runner.run()

The names, defaults and messages are those of the physical-AI toolchain's module of this name. Behind them stand this
package's tap on skrl (every value once, true episode returns, the last window) and its journal: with the real mlflow
module nothing is sent from the training thread, and nothing is lost to an outage or a kill.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from rl_logging.adapters.skrl import attach
from rl_logging.adapters.skrl.hooks import Hook
from rl_logging.adapters.skrl.names import name_table
from rl_logging.adapters.skrl_mlflow.extracting import TrackedValues
from rl_logging.adapters.skrl_mlflow.extracting import (
    extract_from_tracking_data as _extract_from_tracking_data,
)
from rl_logging.adapters.skrl_mlflow.extracting import extract_from_value as _extract_from_value
from rl_logging.adapters.skrl_mlflow.relay import Relay

_CLOCKS: Final = ("timestep", "timesteps")

__all__ = [
    "MlflowLoggingWrapper",
    "_extract_from_tracking_data",
    "_extract_from_value",
    "create_mlflow_logging_wrapper",
]


def create_mlflow_logging_wrapper(
    agent: Any,
    mlflow_module: Any,
    metric_filter: Collection[str] | None = None,
    *,
    interval: str | int | None = None,
) -> MlflowLoggingWrapper:
    """Returns a function to be assigned to ``agent._update``, or to ``agent.update`` with skrl 2.

    A skrl agent is hooked at once, so that both assignments work with either version of skrl, and no value that is
    tracked between two updates is missed; its steps are environment steps. Any other object will do that has
    ``tracking_data`` and a method ``_update`` or ``update``: whenever the function is called, what is tracked then is
    logged, at the timestep of the call.

    Args:
        agent: The agent, or the Runner that has it.
        mlflow_module: The mlflow module: metrics go to its active run. Or any object with
            ``log_metrics(metrics, step=...)``, which is called from the training thread. A row that has values on a
            CUDA device is not waited for: it comes, in its order, when they have arrived.
        metric_filter: Names to log, also globs and ``!name``; None or none: everything.
        interval: How often a skrl agent's metrics are logged, as the setting ``interval``. None: after each rollout;
            every 10 steps for agents that have none, such as SAC. ``RL_LOGGING_INTERVAL`` overrides both.

    Raises:
        AttributeError: The agent tracks nothing, or has no update method.
        TypeError: `mlflow_module` has no ``log_metrics``.
        SettingsError: The filter or the interval is wrong.
    """
    target = _agent(agent)
    name = _update_name(target)
    settings: dict[str, Any] = {"interval": interval or _interval(target)}
    if metric_filter:
        settings["metric_filter"] = [metric_filter] if isinstance(metric_filter, str) else list(metric_filter)
    return MlflowLoggingWrapper(target, name, Relay(target, mlflow_module, settings))


class MlflowLoggingWrapper:
    """Stands in for an agent's update method: calls it, returns what it returned, and has its metrics logged.

    Args:
        agent: The agent.
        name: The method's name.
        relay: What it logs through.
    """

    def __init__(self, agent: Any, name: str, relay: Relay) -> None:
        self.__name__ = name
        self._relay = relay
        found = getattr(agent, name)
        self._style: str = found._style if isinstance(found, MlflowLoggingWrapper) else _style(found)
        self._values: TrackedValues | None = None
        self._step_hook: Hook | None = None
        if _is_skrls(agent):
            relay.on_finish(self._unhook)
            if attach(relay, agent, checkpoints=False).attached:
                self._step_hook = Hook(agent, "post_interaction", self._around_step, self, _nothing)
        else:
            self._values = TrackedValues(agent)
            self._pipeline = relay.pipeline(name_table(agent))
        inner = getattr(agent, name)
        # A wrapper in the place of another one takes it over.
        self._inner: Callable[..., Any] = inner._inner if isinstance(inner, MlflowLoggingWrapper) else inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the agent's own method with the same arguments, ``timestep`` and ``timesteps`` in whatever way."""
        clocks = dict(zip(_CLOCKS, args, strict=False)) | {key: kwargs[key] for key in _CLOCKS if key in kwargs}
        if self._style == "keywords":
            args, kwargs = args[len(_CLOCKS) :], {**kwargs, **clocks}
        elif self._style == "positions":
            args = (*clocks.values(), *args[len(_CLOCKS) :])
            kwargs = {key: value for key, value in kwargs.items() if key not in _CLOCKS}
        result = self._inner(*args, **kwargs)
        if self._values is not None:
            self._log(clocks.get("timestep", 0), self._values)
        return result

    def flush(self, timeout: float = 10) -> bool:
        """Waits until MLflow has what was logged so far; False where `timeout` seconds were not enough."""
        return self._relay.flush(timeout)

    def finish(self, timeout: float | None = None) -> None:
        """Ends the logging: what is left is logged and delivered, and the agent is left as it was found. Idempotent.

        It happens by itself at the process's exit.

        Args:
            timeout: For how many seconds to wait at most; None: the setting ``finish_timeout_s``.
        """
        self._relay.finish(timeout=timeout)

    def __reduce__(self) -> tuple[Any, ...]:
        # A copied agent has its own plain method: what it does elsewhere is not this run.
        return _itself, (self._inner,)

    def _unhook(self) -> None:
        if self._step_hook is not None:
            self._step_hook.remove()

    def _around_step(self, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        result = inner(*args, **kwargs)
        self._relay.release()
        return result

    def _log(self, timestep: Any, values: TrackedValues) -> None:
        try:
            self._relay.begin(int(timestep))
            for tag, value in values.read():
                self._pipeline.record(tag, value)
            self._pipeline.emit(int(timestep))
            self._relay.release()
        except Exception as error:
            self._relay.failed(timestep, error)


def _agent(source: Any) -> Any:
    for candidate in (source, getattr(source, "agent", None)):
        if isinstance(getattr(candidate, "tracking_data", None), Mapping):
            return candidate
    raise AttributeError(
        "Agent must have 'tracking_data' attribute for MLflow metric logging. "
        f"Agent type {type(source).__name__} does not support metric tracking."
    )


def _is_skrls(agent: Any) -> bool:
    return any(cls.__module__.partition(".")[0] == "skrl" for cls in type(agent).__mro__)


def _update_name(agent: Any) -> str:
    for name in ("_update", "update"):
        # On skrl 2 an assigned `_update` is nobody's method.
        owner = type(agent) if _is_skrls(agent) else agent
        if callable(getattr(owner, name, None)):
            return name
    raise AttributeError(
        "Agent must have a method '_update' (skrl 1) or 'update' (skrl 2) to be wrapped: "
        f"{type(agent).__name__} has neither."
    )


def _style(method: Callable[..., Any]) -> str:
    """Returns how `method` takes the timestep and their number: ``keywords``, ``positions``, or ``either``."""
    try:
        parameters = inspect.signature(method).parameters
    except (TypeError, ValueError):
        return "either"
    if "timestep" in parameters:
        return "keywords" if parameters["timestep"].kind is inspect.Parameter.KEYWORD_ONLY else "either"
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return "either" if takes_any else "positions"


def _interval(agent: Any) -> str:
    cfg = getattr(agent, "cfg", None)
    rollouts = cfg.get("rollouts") if isinstance(cfg, Mapping) else getattr(cfg, "rollouts", None)
    return "rollout" if rollouts else "balanced"


def _nothing() -> None:
    """The tap's own hooks tell of copies."""


def _itself(value: Any) -> Any:
    return value
