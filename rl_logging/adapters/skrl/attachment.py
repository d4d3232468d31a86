"""Attaching a run to an agent."""

from __future__ import annotations

from typing import Any, Protocol

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
) -> Handle:
    """Logs everything that an agent tracks while it is trained or evaluated, until the run's end or ``detach()``.

    The points are those of skrl's own TensorBoard file, by its own reduction, at the setting ``interval: framework``,
    plus the last window, which skrl drops; a trainer's evaluation is logged below ``eval/``. Besides: the mean return
    and length of the last 100 finished episodes, learning rates, frames per second, times of rollouts and updates.

    An agent that is attached already keeps its attachment to the same logger; another logger's takes its place. On
    all but the first process of a distributed training nothing is done.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
        agent_or_runner: The agent, or the Runner or trainer that has it.
        num_envs: Environment steps in one step of the agent; by default what the logger's env, the agent's memory or
            the first transition says.
        initial_step: Where the run's clock starts, for a training that goes on with another's; default 0.
        checkpoints: Whether the checkpoints that skrl writes are logged as models.

    Returns:
        The attachment.

    Raises:
        AttributeError: The agent tracks nothing.
        ValueError: `num_envs` is below 1.
    """
    if num_envs is not None and num_envs < 1:
        raise ValueError(f"num_envs: got {num_envs}, must be at least 1")
    agent = _agent(agent_or_runner)
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
    return Tap(
        logger,
        agent,
        agent_or_runner,
        num_envs=num_envs,
        initial_step=initial_step or 0,
        checkpoints=checkpoints,
    )


class _Detached:
    """The attachment of a process that logs nothing."""

    attached = False

    def detach(self) -> None:
        """Does nothing."""


def _agent(source: Any) -> Any:
    """Returns the agent that `source` is or has."""
    for candidate in (source, getattr(source, "agent", None), getattr(source, "agents", None)):
        if hasattr(candidate, "tracking_data"):
            return candidate
    unfit = next((it for it in (getattr(source, "agent", None), getattr(source, "agents", None)) if it), source)
    raise AttributeError(
        "Agent must have 'tracking_data' attribute for MLflow metric logging. "
        f"Agent type {type(unfit).__name__} does not support metric tracking."
    )
