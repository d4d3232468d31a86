"""What the logger has for adapters: getting at one, and what one logs through."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rl_logging.extraction.intervals import Interval
from rl_logging.extraction.names import NameTable
from rl_logging.extraction.pipeline import Pipeline
from rl_logging.records import Config
from rl_logging.run import env_info
from rl_logging.run.interface import Run
from rl_logging.run.metric_verbs import MetricVerbs


class AdapterVerbs(MetricVerbs):
    """The part of `rl_logging.ExperimentLogger` that adapters use."""

    def get_callbacks(self, eval_env: Any = None, **options: Any) -> list[Any]:
        """Returns stable-baselines3 callbacks that log to this run, for ``model.learn(callback=...)``.

        What is recorded is logged; the settings ``rl_logging.eval``, ``.checkpoint`` and ``.video`` add evaluations,
        checkpoints and videos.

        Args:
            eval_env: Where to evaluate: an environment that is not the training's, a VecEnv, an environment's id, or
                a callable that makes one. None: another one like `env`.
            **options: See `rl_logging.adapters.stable_baselines3.make_callbacks`.

        Raises:
            SettingsError: An argument is wrong.
            ValueError: There is no environment to evaluate in, or to record.
            ImportError: stable-baselines3 is not installed.
        """
        return list(adapter("stable_baselines3").make_callbacks(self, eval_env, **options))

    def attach(self, agent: object, **options: Any) -> Any:
        """Hooks a SKRL agent, or a Runner's, so that what it tracks is logged.

        Args:
            agent: The agent or Runner.
            **options: See `rl_logging.adapters.skrl.attach`.

        Returns:
            A handle with ``detach()``.

        Raises:
            AttributeError: It is no SKRL agent.
            ImportError: skrl is not installed.
        """
        return adapter("skrl").attach(self, agent, **options)

    def pipeline(self, table: NameTable) -> Pipeline:
        """Returns the pipeline through which an adapter logs, made from the settings."""
        settings = self.settings
        made = Pipeline(
            self.emit,
            table,
            names=settings.names,
            metric_filter=self._adapter_filter,
            interval=Interval.parse(settings.interval),
            warn=self.warn_once,
            accepted=partial(_handed_over, self._last_run),
            aliases=settings.aliases,
            max_depth=settings.max_depth,
            met=self._names.met,
        )
        self._pipelines.append(made)
        if self._last_run.room is not None:
            self._names.of(made)
        return made

    def set_clock(self, read: Callable[[], int | None] | int | None) -> None:
        """Sets the clock of step-less calls, or the step where a training has left it; None takes it away."""
        self._steps.attach(read)

    def add_config_defaults(self, values: Mapping[str, Any]) -> None:
        """Logs configuration that an adapter found out; keys the user has given stay as they are."""
        self._guarded("configuration", self._log_defaults, values)

    @property
    def num_envs(self) -> int | None:
        """How many environments `env` steps at once; None without one."""
        return env_info.num_envs_of(self.env)

    def _log_defaults(self, values: Mapping[str, Any]) -> None:
        new = self._config.found(values)
        if new:
            self._append(Config.kind, None, new)


def _handed_over(run: Run) -> int:
    """Returns how many records a run has got, with those whose values are still on a device."""
    return run.accepted + run.on_device


def adapter(name: str) -> Any:
    """Returns an adapter's module; adapters stand above the logger, so they are reached by name."""
    return importlib.import_module(f"rl_logging.adapters.{name}")
