"""The logger's verbs for metrics: converted, filtered, stamped with a step, and appended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from rl_logging.extraction.values import flatten
from rl_logging.records import Config
from rl_logging.run.goals import GOALS, earlier_best
from rl_logging.run.handle import RunHandle
from rl_logging.run.interface import Run
from rl_logging.run.journaled import JournaledRun
from rl_logging.run.late_records import hold_record


class MetricVerbs(RunHandle):
    """The part of `rl_logging.ExperimentLogger` that logs metrics."""

    def log_metrics(self, metrics: Mapping[str, object], step: int | None = None) -> None:
        """Logs scalars.

        Args:
            metrics: Names to values, nested mappings becoming ``a/b``. Numbers, NumPy and torch scalars and
                one-element arrays are one value; larger arrays, tensors and sequences become ``name/mean``, ``/std``,
                ``/min`` and ``/max``; None is skipped; NaN and the infinities are kept. For values of other types see
                `register_converter`. CUDA tensors are not waited for: the record is accepted when their values are
                there, which `status` and `flush` tell, with the step and time of this call.
            step: Position on the run's clock. None: the attached adapter's clock; without one, one more than the
                highest step so far, from 0; or what `step` was set to.
        """
        run = self._run
        if run is None:
            self._refuse()
            return
        later: dict[str, Any] = {}
        try:
            values = flatten(metrics, self._warn_of_key, max_depth=self._max_depth, wanted=self._wanted, later=later)
        except Exception as error:
            self.warn_once(
                f"log_metrics {type(metrics).__name__}",
                f"log_metrics: a {type(metrics).__name__} is not a mapping of names to numbers: {error}",
            )
            return
        if self._filter is not None:
            allows = self._filter.allows
            values = {name: value for name, value in values.items() if allows(name)}
            later = {name: tensor for name, tensor in later.items() if name in values}
        if later:
            self._keep_later(run, values, later, self._steps.stamp(step))
        elif values:
            self._keep(run, values, self._steps.stamp(step))

    def emit(self, values: dict[str, float], step: int | None, later: Mapping[str, Any] | None = None) -> None:
        """Logs what an adapter's pipeline has named and filtered already; `later` as in `hold_record`."""
        run = self._run
        if run is None or not values:
            return
        if later:
            self._keep_later(run, values, later, self._steps.stamp(step))
        else:
            self._keep(run, values, self._steps.stamp(step))

    def fetch(self, tensors: Sequence[Any], then: Callable[[list[Any]], None]) -> None:
        """Has `then` called with CUDA tensors once they are in the host's memory, by another thread or a later call.

        Nobody waits for them. It is called in the order of these calls, and of those that log what is on a device;
        never where they do not come, which is told.
        """
        run = self._run
        if run is not None:
            run.hold(tensors, lambda arrived, _: then(arrived), whole=True)

    def define_metric(self, name: str, goal: Literal["max", "min"], description: str | None = None) -> None:
        """Has the best value of a metric stand in each store's summary, beside the last.

        Whenever a value is better than all before, it is logged as ``<name>/best`` too, and its step as
        ``<name>/best_step``. The goal and the description go to the configuration, below ``define_metric``.

        Args:
            name: The metric's name, as it is logged.
            goal: ``max`` or ``min``: which values are better.
            description: What it means, for people.
        """
        self._guarded(f"define_metric '{name}'", self._define_metric, name, goal, description)

    def best(self, name: str) -> float | None:
        """Returns the best value of a metric that was given to `define_metric`; None before any.

        A Hydra or Optuna objective can return it. Of a run that was resumed, the earlier parts count too.
        """
        if not self._goals.defined(name):
            self.warn_once(f"best {name}", f"best: '{name}' has no goal: call define_metric('{name}', goal=...) first")
        return self._goals.best(name)

    def _keep(self, run: Run, values: dict[str, float], step: int, time_s: float | None = None) -> None:
        self._scores.note(values)
        run.append("metrics", step, self._goals.with_best(values, step) if self._goals else values, time_s)

    def _keep_later(self, run: Run, values: dict[str, float], later: Mapping[str, Any], step: int) -> None:
        hold_record(run, values, later, lambda values, time_s: self._keep(run, values, step, time_s))

    def _define_metric(self, name: str, goal: Literal["max", "min"], description: str | None) -> None:
        if goal not in GOALS:
            raise ValueError(f"goal: got {goal!r}, may be 'max' or 'min'")
        told = {"goal": goal} if description is None else {"goal": goal, "description": description}
        self._append(Config.kind, None, self._config.given({"define_metric": {name: told}}))
        run = self._last_run
        before = earlier_best(run.bundle, name) if self._resumed and isinstance(run, JournaledRun) else None
        self._goals.define(name, goal, before)

    def _warn_of_key(self, key: str, message: str) -> None:
        self.warn_once(f"metric {key}", message)
