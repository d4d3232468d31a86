"""The tap on one skrl agent: the hooks around its methods, and what is called in them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rl_logging.adapters.skrl.clocks import SharedClock
from rl_logging.adapters.skrl.hooks import Around, Hook
from rl_logging.adapters.skrl.observer import Observer
from rl_logging.adapters.skrl.passage import Passage
from rl_logging.adapters.skrl.relay import Relay

_Args = tuple[Any, ...]
_Kwargs = Mapping[str, Any]


class Tap:
    """Logs what an agent tracks, from the moment it is made until `detach`.

    An exception of the logging never reaches the training, and every method hooked is called once, as it would be.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
        agent: The agent or multi-agent.
        source: What the agent was taken from (a Runner or a trainer), or the agent; None for nothing.
        num_envs: Environment steps in one step of the agent; None to find it out.
        initial_step: Where the run's clock starts; None: where `SharedClock.begins_at` says.
        checkpoints: Whether to log the checkpoints that skrl writes.
        label: What stands before all names: one agent's among several.
    """

    def __init__(
        self,
        logger: Any,
        agent: Any,
        source: Any = None,
        *,
        num_envs: int | None,
        initial_step: int | None,
        checkpoints: bool,
        label: str,
    ) -> None:
        self.logger = logger
        self.agent = agent
        self.attached = True
        self._clock = SharedClock.of(logger)
        self._observer = Observer(
            logger,
            agent,
            source,
            num_envs=num_envs,
            begins_at=self._clock.begins_at if initial_step is None else lambda: initial_step,
            checkpoints=checkpoints,
            label=label,
        )
        self._met = False
        self._safely(self._observer.describe)
        self._options: dict[str, Any] = {
            "num_envs": num_envs,
            "checkpoints": checkpoints,
            "label": label,
        }
        self._relay: Relay | None = None
        self._passage: Passage | None = None
        self._write_interval: tuple[Any, int] | None = None
        self._hooks = self._place_hooks()
        self._observer.sees_transitions = "transition" in self._hooks
        self._observer.sees_writes = "write" in self._hooks
        self._clock.join(self._observer.timeline)
        logger.on_finish(self.detach)

    def detach(self) -> None:
        """Emits the last window and leaves the agent as it was found. Idempotent."""
        if not self.attached:
            return
        self.attached = False
        self._safely(self._observer.flush)
        for hook in reversed(self._hooks.values()):
            hook.remove()
        if self._relay is not None:
            self._relay.close()
        if self._write_interval is not None:
            found, ours = self._write_interval
            if self.agent.write_interval == ours:
                self.agent.write_interval = found
        self._clock.leave(self._observer.timeline)

    def _place_hooks(self) -> dict[str, Hook]:
        around: dict[str, tuple[str, Around]] = {
            "begin": ("pre_interaction", self._around_begin),
            "transition": ("record_transition", self._around_transition),
            # On 2.x an assigned `_update` would never be called.
            "update": ("_update" if hasattr(type(self.agent), "_update") else "update", self._around_update),
            "step": ("post_interaction", self._around_step),
            "write": ("write_tracking_data", self._around_write),
            "checkpoint": ("write_checkpoint", self._around_checkpoint),
        }
        return {
            role: Hook(self.agent, name, run, self, self._copied, self._leaves)
            for role, (name, run) in around.items()
            if callable(getattr(self.agent, name, None))
        }

    def _copied(self) -> None:
        self.logger.warn_once(
            "skrl/copied",
            f"the attached {type(self.agent).__name__} was copied: the copy works as ever, but nothing of it is logged",
        )

    def _leaves(self) -> Passage | None:
        """Returns what travels with the pickled agent; nothing with one that is trained here."""
        timeline = self._observer.timeline
        if not self.attached or timeline.phase is not None:
            return None
        emitter = self._observer.emitter
        try:
            if self._relay is None:
                self._relay = Relay(self.logger, emitter.pipeline, timeline.heard)
        except OSError as error:
            self.logger.warn_once("skrl/relay", f"an agent in another process is not logged: {error!r}")
            return None
        self._relay.hear_out()  # the copy before may have taken the run on
        settings = self.logger.settings
        if self._passage is None or self._passage.begins_at != timeline.now:
            self._passage = Passage(
                self._relay.address,
                functools.partial(Tap, **self._options),
                begins_at=timeline.now,
                interval=emitter.interval,
                settings={"clock": settings.clock, "on_step_reset": settings.on_step_reset},
                env=self._observer.stand_in_for_env(),
            )
        return self._passage

    def _safely(self, action: Callable[..., Any], *args: Any) -> bool:
        """Returns whether `action` went well; what goes wrong in it is told, once, and no more."""
        try:
            action(*args)
        except Exception as error:
            self._tell(action.__name__, error)
            return False
        return True

    def _tell(self, action: str, error: Exception) -> None:
        self.logger.warn_once(
            f"skrl/{action}",
            f"Failed to extract or log metrics at step {self._observer.timeline.timestep + 1}: "
            f"{type(error).__name__}: {error} (in {action}; the training goes on)",
        )

    # These run in every step of the training: what they do not need to call, they do not call.

    def _around_begin(self, inner: Callable[..., Any], args: _Args, kwargs: _Kwargs) -> Any:
        try:
            self._observer.before_step(_arguments(inner, args, kwargs) if args else kwargs)
        except Exception as error:
            self._tell("before_step", error)
        return inner(*args, **kwargs)

    def _around_transition(self, inner: Callable[..., Any], args: _Args, kwargs: _Kwargs) -> Any:
        call = _arguments(inner, args, kwargs) if args else kwargs
        observer = self._observer
        try:
            observer.before_transition(call)
        except Exception as error:
            self._tell("before_transition", error)
            return inner(*args, **kwargs)
        if not self._met:
            self._met = True
            self._safely(observer.describe_surroundings)
            self._ensure_writes(call.get("timesteps"))
        result = inner(*args, **kwargs)
        try:
            observer.after_transition(call)
        except Exception as error:
            self._tell("after_transition", error)
        return result

    def _around_update(self, inner: Callable[..., Any], args: _Args, kwargs: _Kwargs) -> Any:
        emitter = self._observer.emitter
        progress, probe = emitter.progress, emitter.probe
        progress.update_begins()
        probing = probe.finds_something and self._safely(probe.start)
        try:
            result = inner(*args, **kwargs)
        finally:
            if probing:
                self._safely(probe.stop)
            progress.update_ends()
        if "step" not in self._hooks:
            self._safely(self._observer.after_step, _arguments(inner, args, kwargs))
        return result

    def _around_step(self, inner: Callable[..., Any], args: _Args, kwargs: _Kwargs) -> Any:
        result = inner(*args, **kwargs)
        try:
            self._observer.after_step(_arguments(inner, args, kwargs) if args else kwargs)
        except Exception as error:
            self._tell("after_step", error)
        return result

    def _around_write(self, inner: Callable[..., Any], args: _Args, kwargs: _Kwargs) -> Any:
        self._safely(self._observer.before_write, _arguments(inner, args, kwargs))
        if self._write_interval is None:
            return inner(*args, **kwargs)
        # skrl was told not to write, so it has no file to write to; but what it would clear must not grow for ever.
        self._clear()
        return None

    def _around_checkpoint(self, inner: Callable[..., Any], args: _Args, kwargs: _Kwargs) -> Any:
        result = inner(*args, **kwargs)
        self._safely(self._observer.after_checkpoint, _arguments(inner, args, kwargs))
        return result

    def _ensure_writes(self, timesteps: Any) -> None:
        """Lets an agent that was told not to write track its figures all the same; skrl tracks only what it writes.

        Only now: at attachment the interval may still be "auto", and skrl would open a file for another.
        """
        interval = getattr(self.agent, "write_interval", None)
        if "write" not in self._hooks or not isinstance(interval, (int, float)) or interval > 0:
            return
        ours = self._observer.emitter.interval.every or max(1, int(timesteps or 0) // 100)
        self._write_interval = (interval, ours)
        self.agent.write_interval = ours

    def _clear(self) -> None:
        self.agent.tracking_data.clear()
        for name in ("_track_rewards", "_track_timesteps"):
            tracked = getattr(self.agent, name, None)
            if tracked is not None:
                tracked.clear()


def _arguments(method: Callable[..., Any], args: _Args, kwargs: _Kwargs) -> _Kwargs:
    """Returns a call's arguments by name; of a call that is wrong, which fails by itself, what there is."""
    if not args:
        return kwargs
    try:
        return inspect.signature(method).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return kwargs
