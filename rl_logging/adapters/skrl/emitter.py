"""From an agent's tracked data to metrics: one emission."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rl_logging.adapters.skrl.names import SUCCESS_TAGS, UPDATE_TIME_TAG, learning_rate_tag, name_table
from rl_logging.adapters.skrl.probes import UpdateProbe, learning_rates
from rl_logging.adapters.skrl.progress import Progress
from rl_logging.adapters.skrl.timeline import Phase
from rl_logging.adapters.skrl.window import TrackedData, Window, of_skrl, reduced
from rl_logging.extraction.window import reduction


class Emitter:
    """Emits what an agent has tracked, with what the adapter knows besides.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
        agent: The agent.
        label: What stands before its names: one agent's among several.
    """

    def __init__(self, logger: Any, agent: Any, label: str) -> None:
        self._agent = agent
        self._label = label
        self._env_steps = logger.settings.clock != "framework"
        self.pipeline = logger.pipeline(name_table(agent, label))
        self._seen: set[str] = set()
        self._collected = False
        self.interval = self.pipeline.interval
        self.follows_skrl = self.interval.kind == "framework"
        self._reduction = of_skrl if self.follows_skrl else reduction
        self.tracked = TrackedData(agent)
        self.progress = Progress()
        self.probe = UpdateProbe(agent)
        # Then what has not changed since the step before is not repeated.
        self._emits_each_step = self.interval.every == 1
        # An episode is a point of its own where no longer window is asked for.
        self._tells_each_episode = self.follows_skrl or self._emits_each_step

    def episodes_ended(self, step: int, phase: Phase) -> None:
        """Takes notice of episodes that ended at the run's step, and were added to the phase's."""
        if self._tells_each_episode and phase.training:
            self.pipeline.canonical(self._named(phase.told.drain(), phase), step)

    def collect(self) -> None:
        """Takes into the pipeline's window what was tracked so far: that of a whole evaluation grows with it."""
        self._into_window(self._drained())

    def emit(self, step: int, phase: Phase, num_envs: int | None, unfinished: Any = None) -> None:
        """Emits the window, if anything was tracked in it.

        Args:
            step: The run's step.
            phase: What it is doing.
            num_envs: Environment steps in a step of the agent, or None where that is unknown.
            unfinished: The mean return so far of the episodes that go on, which may be on a device still; None where
                that is unknown.
        """
        window = self._drained()
        values: dict[str, float] = {}
        if phase.training:
            values, window = reduced(window, self._reduction)
        self._into_window(window)
        if not values and not self._collected:
            return
        self._collected = False
        own: dict[str, Any] = {**phase.told.drain()}
        if phase.told.fresh or not self._emits_each_step:
            own.update(phase.told.metrics())
        if not SUCCESS_TAGS.isdisjoint(self._seen):
            own.pop("success_rate", None)  # the environment counts them itself
        if phase.training:
            own.update(self._training_metrics(step, num_envs))
            if unfinished is not None:
                own["cumulative_rewards"] = unfinished
        self.pipeline.emit(step, prefix=phase.prefix, values=values, own=self._named(own, phase))

    def _drained(self) -> Window:
        window = self.tracked.drain()
        self._seen.update(window)
        return {self._label + tag: tracked for tag, tracked in window.items()} if self._label else window

    def _into_window(self, window: Window) -> None:
        for tag, tracked in window.items():
            self._collected = True
            how = of_skrl(tag) if self.follows_skrl else None
            for value in tracked:
                # NumPy's float64 is a float too, and the pipeline's short way is for plain ones.
                self.pipeline.record(tag, float(value) if isinstance(value, (float, int)) else value, how)

    def _named(self, own: Mapping[str, Any], phase: Phase) -> Mapping[str, Any]:
        prefix = phase.prefix + self._label
        return {prefix + name: value for name, value in own.items()} if prefix else own

    def _training_metrics(self, step: int, num_envs: int | None) -> dict[str, Any]:
        values: dict[str, Any] = self.progress.drain(num_envs)
        if UPDATE_TIME_TAG in self._seen:
            values.pop("learning_time", None)  # skrl's own has that name
        values.update(self.probe.drain())
        for name, rate in learning_rates(self._agent).items():
            if learning_rate_tag(name) not in self._seen:
                values[name] = rate
        if self._env_steps:
            values["timesteps"] = float(step)
        elif num_envs is not None:
            values["timesteps"] = float(step * num_envs)
        return values
