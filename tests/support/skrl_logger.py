"""A logger as the skrl adapter sees it: a real pipeline, and everything kept. There is no journal behind it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from rl_logging.extraction import Interval, MetricFilter, NameTable, Pipeline
from tests.support.skrl_training import as_float32


class FakeLogger:
    """What an adapter uses of a logger, with a real pipeline; keeps what it is given."""

    def __init__(
        self, *, interval: str | int = "framework", names: str = "canonical", clock: str = "env_steps"
    ) -> None:
        self.settings = SimpleNamespace(
            interval=interval, names=names, clock=clock, on_step_reset="continue", metric_filter=None
        )
        self.num_envs: int | None = None
        self.env: Any = None
        self.rows: list[tuple[int | None, dict[str, float]]] = []
        self.config: list[Mapping[str, Any]] = []
        self.models: list[dict[str, Any]] = []
        self.warnings: dict[str, str] = {}
        self.read_clock: Callable[[], int | None] | None = None
        self.at_finish: list[Callable[[], None]] = []

    def pipeline(self, table: NameTable) -> Pipeline:
        return Pipeline(
            self.emit,
            table,
            names=self.settings.names,
            metric_filter=MetricFilter(None),
            interval=Interval.parse(self.settings.interval),
            warn=self.warn_once,
        )

    def emit(self, values: Mapping[str, float], step: int | None) -> None:
        self.rows.append((step, dict(values)))

    def save_model(self, model: Any, **kwargs: Any) -> None:
        self.models.append({"model": model, **kwargs})

    def add_config_defaults(self, values: Mapping[str, Any]) -> None:
        self.config.append(values)

    def set_clock(self, read: Callable[[], int | None] | None) -> None:
        self.read_clock = read

    def take_restored_step(self) -> int | None:
        return None

    def on_finish(self, callback: Callable[[], None]) -> None:
        self.at_finish.append(callback)

    def warn_once(self, key: str, message: str) -> None:
        self.warnings.setdefault(key, message)

    def finish(self) -> None:
        for callback in self.at_finish:
            callback()

    def merged_config(self) -> dict[str, Any]:
        """Returns the configuration as a store shows it: the first of each key's values stays."""
        merged: dict[str, Any] = {}
        for values in self.config:
            _merge(merged, values)
        return merged

    def points(self) -> dict[str, dict[int, float]]:
        """Returns name -> step -> value, and finds a point logged twice."""
        points: dict[str, dict[int, float]] = defaultdict(dict)
        for step, values in self.rows:
            assert step is not None
            for name, value in values.items():
                assert step not in points[name], f"{name} twice at {step}"
                points[name][step] = value
        return dict(points)


def same(ours: Mapping[int, float], theirs: Mapping[int, float]) -> bool:
    """Returns whether two curves are one, as far as TensorBoard's float32 can tell."""
    return ours.keys() == theirs.keys() and all(
        as_float32(ours[step]) == pytest.approx(theirs[step], rel=3e-7, abs=0, nan_ok=True) for step in ours
    )


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping):
            _merge(into.setdefault(key, {}), value)
        else:
            into.setdefault(key, value)
