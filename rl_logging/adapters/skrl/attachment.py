"""Attaching a run to an agent."""

from __future__ import annotations

from typing import Any, Protocol

from rl_logging.adapters.skrl.clocks import SharedClock
from rl_logging.adapters.skrl.describe import experiment_setting, is_secondary
from rl_logging.adapters.skrl.hooks import Hook
from rl_logging.adapters.skrl.tap import Tap


class Handle(Protocol):
    """What `attach` returns."""

    @property
    def attached(self) -> bool:
        """Whether the agent is being logged."""
        ...

    def detach(self) -> None:
        """Emits the last window and leaves the agent as it was found. Idempotent."""
        ...


def attach(
    logger: Any,
    agent_or_runner: Any,
    *,
    num_envs: int | None = None,
    initial_step: int | None = None,
    checkpoints: bool = True,
    prefix: str | None = None,
) -> Handle:
    """Logs everything that an agent tracks while it is trained or evaluated, until the run's end or ``detach()``.

    The points are those of skrl's own TensorBoard file, by its own reduction, at the setting ``interval: framework``,
    plus the last window, which skrl drops; a trainer's evaluation is logged below ``eval/``. Besides: returns and
    lengths of finished episodes, learning rates, frames per second, times of rollouts and updates.

    An agent that is attached already keeps its attachment to the same logger; another logger's takes its place. On
    all but the first process of a distributed training nothing is done.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
        agent_or_runner: The agent, or the Runner or trainer that has it; all of a trainer's agents, where it has
            several, are logged below ``agent_0/``, ``agent_1/`` and so on.
        num_envs: Environment steps in one step of the agent, over all processes; by default what the logger's env,
            the agent's memory or the first transition says, times the processes of a distributed training.
        initial_step: Where the run's clock starts, for a training that goes on with another's; default where the
            logger's `load_state_dict` has set it, else where the agent stood that was attached before this one, else 0.
        checkpoints: Whether the checkpoints that skrl writes are logged as models.
        prefix: What stands before each of the agent's names, such as ``hider``, where one run has several agents. By
            default nothing for the first, and ``agent_1`` and so on for those that are attached beside it.

    Returns:
        The attachment.

    Raises:
        AttributeError: The agent tracks nothing.
        ValueError: `num_envs` is below 1, or `initial_step` is no number.
    """
    if num_envs is not None and num_envs < 1:
        raise ValueError(f"num_envs: got {num_envs}, must be at least 1")
    try:
        first_step = None if initial_step is None else int(initial_step)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"initial_step: got {initial_step!r}, must be a number of steps") from None
    several = _agents(agent_or_runner)
    if len(several) > 1:
        given = f"{prefix.strip('/')}/" if prefix else ""
        return _Attachments(
            [
                _attach_one(
                    logger,
                    agent,
                    agent_or_runner,
                    num_envs=num_envs or envs,
                    initial_step=first_step,
                    checkpoints=checkpoints,
                    prefix=f"{given}agent_{number}",
                )
                for number, (agent, envs) in enumerate(several)
            ]
        )
    return _attach_one(
        logger,
        several[0][0],
        agent_or_runner,
        num_envs=num_envs,
        initial_step=first_step,
        checkpoints=checkpoints,
        prefix=prefix,
    )


def _attach_one(
    logger: Any,
    agent: Any,
    source: Any,
    *,
    num_envs: int | None,
    initial_step: int | None,
    checkpoints: bool,
    prefix: str | None,
) -> Handle:
    if is_secondary(agent):
        return _Detached()
    previous = next((hook.owner for hook in vars(agent).values() if isinstance(hook, Hook) and hook.active), None)
    if isinstance(previous, Tap):
        if previous.logger is logger:
            logger.warn_once("skrl/attached", f"this {type(agent).__name__} is attached already: it stays so")
            return previous
        logger.warn_once(
            "skrl/attached", f"this {type(agent).__name__} was attached to another logger: that attachment ends"
        )
        previous.detach()
    if experiment_setting(agent, "wandb"):
        logger.warn_once(
            "skrl/wandb",
            "skrl starts a W&B run of its own (experiment.wandb is True) beside this one: set it to False, "
            "the 'wandb' sink logs the same values",
        )
    beside = SharedClock.of(logger).agents
    if prefix is None and beside:
        prefix = f"agent_{beside}"
        logger.warn_once(
            "skrl/beside",
            f"this {type(agent).__name__} is attached beside another agent: its names have '{prefix}/' before them; "
            "give prefix to logger.attach for another word, or detach the first agent before",
        )
    return Tap(
        logger,
        agent,
        source,
        num_envs=num_envs,
        initial_step=initial_step,
        checkpoints=checkpoints,
        label=f"{prefix.strip('/')}/" if prefix else "",
    )


class _Attachments:
    """The attachments of several agents that are trained together."""

    def __init__(self, handles: list[Handle]) -> None:
        self._handles = handles

    @property
    def attached(self) -> bool:
        """Whether any of the agents is being logged."""
        return any(handle.attached for handle in self._handles)

    def detach(self) -> None:
        """Detaches all of them."""
        for handle in self._handles:
            handle.detach()


class _Detached:
    """The attachment of a process that logs nothing."""

    attached = False

    def detach(self) -> None:
        """Does nothing."""


def _agents(source: Any) -> list[tuple[Any, int | None]]:
    """Returns the agents that `source` is or has, each with the number of its environments where there are several.

    Raises:
        AttributeError: There is none that tracks anything.
    """
    trainer = getattr(source, "trainer", source)
    agents = getattr(trainer, "agents", None)
    if isinstance(agents, (list, tuple)) and agents and all(hasattr(agent, "tracking_data") for agent in agents):
        scopes = getattr(trainer, "scopes", None) or getattr(trainer, "agents_scope", None) or []
        if len(agents) == 1 or len(scopes) != len(agents):
            return [(agent, None) for agent in agents]
        return [(agent, scope[1] - scope[0]) for agent, scope in zip(agents, scopes, strict=True)]
    for candidate in (source, getattr(source, "agent", None), agents):
        if hasattr(candidate, "tracking_data"):
            return [(candidate, None)]
    unfit = next((it for it in (getattr(source, "agent", None), agents) if it), source)
    of_sb3 = any(cls.__module__.startswith("stable_baselines3.") for cls in type(unfit).__mro__)
    raise AttributeError(
        "Agent must have 'tracking_data' attribute for MLflow metric logging. "
        f"Agent type {type(unfit).__name__} does not support metric tracking."
        + (" stable-baselines3 is logged by model.learn(..., callback=logger.get_callbacks())." if of_sb3 else "")
    )
