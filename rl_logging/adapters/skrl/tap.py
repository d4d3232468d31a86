"""The tap on one skrl agent: the hooks around its methods, and when they emit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rl_logging.adapters.skrl import describe
from rl_logging.adapters.skrl.checkpoints import Checkpoints
from rl_logging.adapters.skrl.emitter import Emitter
from rl_logging.adapters.skrl.episodes import Episodes, env_of_caller, resets_in_a_step
from rl_logging.adapters.skrl.hooks import Around, Hook
from rl_logging.adapters.skrl.infos import EnvironmentFigures
from rl_logging.adapters.skrl.timeline import Phase, Timeline

_Args = tuple[Any, ...]
_Kwargs = Mapping[str, Any]


class Tap:
    """Logs what an agent tracks, from the moment it is made until `detach`.

    An exception of the logging never reaches the training, and every method hooked is called once, as it would be.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
        agent: The agent or multi-agent.
        source: What the agent was taken from (a Runner or a trainer), or the agent.
        num_envs: Environment steps in one step of the agent; None to find it out.
        initial_step: Where the run's clock starts.
        checkpoints: Whether to log the checkpoints that skrl writes.
    """

    def __init__(
        self, logger: Any, agent: Any, source: Any, *, num_envs: int | None, initial_step: int, checkpoints: bool
    ) -> None:
        self.logger = logger
        self.agent = agent
        self.attached = True
        self._emitter = Emitter(logger, agent)
        self._env = getattr(getattr(source, "trainer", source), "env", None)
        self._given_num_envs = num_envs
        self._timeline = Timeline(
            logger,
            initial_step=initial_step,
            num_envs=num_envs or logger.num_envs or describe.memory_num_envs(agent),
        )
        self._episodes: Episodes | None = None
        self._was_training = getattr(agent, "_cumulative_rewards", None) is not None
        self._figures = EnvironmentFigures()
        self._last_finished: object = None
        self._updated = False
        self._write_interval: tuple[Any, int] | None = None
        folder = getattr(agent, "experiment_dir", None)
        self._checkpoints = Checkpoints(Path(folder) / "checkpoints") if checkpoints and folder else None
        logger.add_config_defaults(describe.configuration(agent, source, self._timeline.num_envs))
        self._hooks = self._place_hooks()
        logger.set_clock(lambda: self._timeline.now)
        logger.on_finish(self.detach)

    def detach(self) -> None:
        """Emits the last window and leaves the agent as it was found. Idempotent."""
        if not self.attached:
            return
        self.attached = False
        self._safely(self._flush)
        for hook in reversed(self._hooks.values()):
            hook.remove()
        if self._write_interval is not None:
            found, ours = self._write_interval
            if self.agent.write_interval == ours:
                self.agent.write_interval = found
        self.logger.set_clock(None)

    # The hooks.

    def _place_hooks(self) -> dict[str, Hook]:
        around: dict[str, tuple[str, Around]] = {
            "transition": ("record_transition", self._around_transition),
            # On 2.x an assigned `_update` would never be called.
            "update": ("_update" if hasattr(type(self.agent), "_update") else "update", self._around_update),
            "step": ("post_interaction", self._around_step),
            "write": ("write_tracking_data", self._around_write),
            "checkpoint": ("write_checkpoint", self._around_checkpoint),
        }
        return {
            role: Hook(self.agent, name, run, self, self._copied)
            for role, (name, run) in around.items()
            if callable(getattr(self.agent, name, None))
        }

    def _copied(self) -> None:
        self.logger.warn_once(
            "skrl/copied",
            f"the attached {type(self.agent).__name__} was copied or sent to another process (as skrl's "
            "ParallelTrainer does): the copy works as ever, but nothing of it is logged; train with a "
            "SequentialTrainer to have it logged",
        )

    def _safely(self, action: Callable[..., Any], *args: Any) -> Any:
        try:
            return action(*args)
        except Exception as error:
            self.logger.warn_once(
                f"skrl/{action.__name__}",
                f"Failed to extract or log metrics at step {self._timeline.timestep + 1}: {type(error).__name__}: "
                f"{error} (in {action.__name__}; the training goes on)",
            )
            return None

    def _around_transition(self, inner: Callable[..., Any], args: _Args, kwargs: _Kwargs) -> Any:
        call = self._safely(self._before_transition, inner, args, kwargs)
        result = inner(*args, **kwargs)
        if call is not None:
            self._safely(self._after_transition, call)
        return result

    def _around_update(self, inner: Callable[..., Any], args: _Args, kwargs: _Kwargs) -> Any:
        self._emitter.progress.update_begins()
        self._safely(self._emitter.probe.start)
        try:
            result = inner(*args, **kwargs)
        finally:
            self._safely(self._emitter.probe.stop)
            self._emitter.progress.update_ends()
        if "step" not in self._hooks:
            self._safely(self._after_step, inner, args, kwargs)
        return result

    def _around_step(self, inner: Callable[..., Any], args: _Args, kwargs: _Kwargs) -> Any:
        result = inner(*args, **kwargs)
        self._safely(self._after_step, inner, args, kwargs)
        return result

    def _around_write(self, inner: Callable[..., Any], args: _Args, kwargs: _Kwargs) -> Any:
        self._safely(self._before_write, inner, args, kwargs)
        if self._write_interval is None:
            return inner(*args, **kwargs)
        # skrl was told not to write, so it has no file to write to; but what it would clear must not grow for ever.
        self._safely(self._clear)
        return None

    def _around_checkpoint(self, inner: Callable[..., Any], args: _Args, kwargs: _Kwargs) -> Any:
        result = inner(*args, **kwargs)
        self._safely(self._after_checkpoint, inner, args, kwargs)
        return result

    # What they do.

    def _before_transition(self, inner: Callable[..., Any], args: _Args, kwargs: _Kwargs) -> _Kwargs:
        call = _arguments(inner, args, kwargs)
        if self._episodes is None:
            self._episodes = self._meet(call["rewards"])
        self._follow(int(call["timestep"]))
        # Before the agent has them: PPO adds to the rewards in place.
        self._episodes.add(call["rewards"])
        self._ensure_writes(call.get("timesteps"))
        return call

    def _after_transition(self, call: _Kwargs) -> None:
        phase = self._timeline.phase
        assert phase is not None
        assert self._episodes is not None
        if self._something_finished():
            for episode_return, length in self._episodes.end(call["terminated"], call["truncated"]):
                phase.episodes.add(episode_return, length)
        for tag, value in self._figures.new(call.get("infos")):
            self._emitter.tracked.add(tag, value)
        steps = self._timeline.timestep + 1
        if phase.training:
            self._emitter.progress.transition()
        elif self._due(steps):
            # A trainer's eval goes past the hook around post_interaction.
            self._emit(steps)

    def _after_step(self, inner: Callable[..., Any], args: _Args, kwargs: _Kwargs) -> None:
        timestep = int(_arguments(inner, args, kwargs)["timestep"])
        updated = self._emitter.progress.step_ends() or self._updated
        self._updated = False
        if "transition" not in self._hooks:
            self._follow(timestep)
        kind = self._emitter.interval.kind
        at_updates = kind == "rollout" or (kind == "framework" and "write" not in self._hooks)
        if self._due(timestep + 1) or (updated and at_updates):
            self._emit(timestep + 1)

    def _before_write(self, inner: Callable[..., Any], args: _Args, kwargs: _Kwargs) -> None:
        self._emitter.tracked.take()
        # The update of this step is over, though its step is not.
        self._updated = self._emitter.progress.step_ends() or self._updated
        phase = self._timeline.phase
        unseen_rollouts = self._emitter.interval.kind == "rollout" and phase is not None and not phase.training
        if self._emitter.follows_skrl or unseen_rollouts:
            self._emit(int(_arguments(inner, args, kwargs)["timestep"]))

    def _after_checkpoint(self, inner: Callable[..., Any], args: _Args, kwargs: _Kwargs) -> None:
        timestep = _arguments(inner, args, kwargs)["timestep"]
        phase = self._timeline.phase
        if self._checkpoints is None or phase is None or not phase.training or timestep is None:
            return
        for checkpoint in self._checkpoints.new(int(timestep)):
            self.logger.save_model(
                checkpoint.path,
                name=checkpoint.name,
                metadata={"framework_step": int(timestep), "file": checkpoint.path.name},
                step=self._timeline.at(int(timestep)),
                aliases=("best",) if checkpoint.best else (),
            )

    # The parts of that.

    def _meet(self, rewards: Any) -> Episodes:
        """Settles what only the first transition tells: whose environments these are, and how many."""
        timeline = self._timeline
        seen = len(next(iter(rewards.values())) if isinstance(rewards, Mapping) else rewards)
        if self._given_num_envs is None and seen != timeline.num_envs:
            if timeline.num_envs is not None:
                self.logger.warn_once(
                    "skrl/num_envs",
                    f"the agent is trained on {seen} environments, not on the {timeline.num_envs} that the logger's "
                    f"env or the agent's memory has: steps are counted with {seen}; where that is wrong, give num_envs "
                    "to logger.attach",
                )
            timeline.num_envs = seen
            self.logger.add_config_defaults({"algo": {"num_envs": seen}})
        if self._env is None:
            self._env = env_of_caller() or self.logger.env
        resets = resets_in_a_step(self._env)
        return Episodes(
            resets_in_a_step=bool(resets), under_way=self._was_training and not (seen == 1 and resets is None)
        )

    def _follow(self, timestep: int) -> Phase:
        """Takes a step on the timeline; what was tracked before it under another prefix or count is emitted first."""
        timeline = self._timeline
        training = bool(getattr(self.agent, "training", True))
        if not timeline.continues(timestep, training=training):
            if timeline.phase is not None:
                self._flush()
                starts_again = timestep <= timeline.timestep
                if starts_again and timeline.num_envs == 1 and self._episodes and resets_in_a_step(self._env) is None:
                    # A lone environment that does not reset itself is reset by the trainer as it starts.
                    self._episodes.restart()
            timeline.enter(timestep, training=training)
            self._emitter.progress.begin()
        return timeline.advance(timestep)

    def _something_finished(self) -> bool:
        """Returns whether an episode may have ended with this transition, without waiting for a device.

        skrl reads the ends of episodes back to the host and appends them here: a new last element is that news.
        """
        tracked = getattr(self.agent, "_track_rewards", None)
        if tracked is None:
            return True
        last = tracked[-1] if tracked else None
        if last is None or last is self._last_finished:
            return False
        self._last_finished = last
        return True

    def _ensure_writes(self, timesteps: Any) -> None:
        """Lets an agent that was told not to write track its figures all the same; skrl tracks only what it writes.

        Only now: at attachment the interval may still be "auto", and skrl would open a file for another.
        """
        interval = getattr(self.agent, "write_interval", None)
        if "write" not in self._hooks or not isinstance(interval, (int, float)) or interval > 0:
            return
        ours = self._emitter.interval.every or max(1, int(timesteps or 0) // 100)
        self._write_interval = (interval, ours)
        self.agent.write_interval = ours

    def _clear(self) -> None:
        self.agent.tracking_data.clear()
        for name in ("_track_rewards", "_track_timesteps"):
            tracked = getattr(self.agent, name, None)
            if tracked is not None:
                tracked.clear()

    def _due(self, step: int) -> bool:
        every = self._emitter.interval.every
        return every is not None and step % every == 0

    def _emit(self, steps: int) -> None:
        timeline = self._timeline
        if timeline.phase is not None:
            self._emitter.emit(timeline.at(steps), timeline.phase, timeline.num_envs)

    def _flush(self) -> None:
        self._emit(self._timeline.timestep + 1)


def _arguments(method: Callable[..., Any], args: _Args, kwargs: _Kwargs) -> _Kwargs:
    """Returns a call's arguments by name."""
    if not args:
        return kwargs
    return inspect.signature(method).bind(*args, **kwargs).arguments
