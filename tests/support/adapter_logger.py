"""A logger as an adapter sees it: real pipelines, and everything kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from rl_logging.extraction import Interval, MetricFilter, NameTable, Pipeline


class AdapterLogger:
    """Has the members of `rl_logging.ExperimentLogger` that adapters use, and no journal."""

    def __init__(
        self,
        interval: str | int = "framework",
        *,
        names: Any = "canonical",
        on_step_reset: str = "continue",
        metric_filter: list[str] | None = None,
    ) -> None:
        self.settings = SimpleNamespace(
            interval=interval,
            clock="env_steps",
            on_step_reset=on_step_reset,
            names=names,
            metric_filter=metric_filter,
            eval=None,
            checkpoint=None,
            video=None,
        )
        self.env = None
        self.num_envs = None
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.config: list[dict[str, Any]] = []
        self.images: list[tuple[str, Any, int | None]] = []
        self.videos: list[tuple[str, Any, int | None, float]] = []
        self.warnings: dict[str, str] = {}
        self.read_clock: Callable[[], int | None] | int | None = None
        self.restored_step: int | None = None
        self._at_finish: list[Callable[[], None]] = []

    def pipeline(self, table: NameTable) -> Pipeline:
        return Pipeline(
            self.emit,
            table,
            names=self.settings.names,
            metric_filter=MetricFilter(self.settings.metric_filter),
            interval=Interval.parse(self.settings.interval),
            warn=self.warn_once,
        )

    def emit(self, values: Mapping[str, float], step: int | None) -> None:
        assert type(step) is int
        assert all(type(value) is float for value in values.values())
        self.rows.append((step, dict(values)))

    def log_config(self, config: dict[str, Any]) -> None:
        self.config.append(config)

    add_config_defaults = log_config

    def log_image(self, name: str, image: Any, step: int | None = None, caption: str | None = None) -> None:
        self.images.append((name, image, step))

    def log_video(self, name: str, frames: Any, step: int | None = None, fps: float = 30) -> None:
        self.videos.append((name, frames, step, fps))

    def set_clock(self, read: Callable[[], int | None] | int | None) -> None:
        self.read_clock = read

    def take_restored_step(self) -> int | None:
        restored, self.restored_step = self.restored_step, None
        return restored

    def on_finish(self, callback: Callable[[], None]) -> None:
        self._at_finish.append(callback)

    def warn_once(self, key: str, message: str) -> None:
        self.warnings.setdefault(key, message)

    def finish(self) -> None:
        for callback in self._at_finish:
            callback()

    def points(self, name: str) -> list[tuple[int, float]]:
        return [(step, values[name]) for step, values in self.rows if name in values]

    @property
    def names(self) -> set[str]:
        return {name for _, values in self.rows for name in values}
