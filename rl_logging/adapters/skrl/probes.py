"""What skrl computes during an update and tells nobody: gradient norms and KL divergences; and learning rates."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from rl_logging.adapters.gradients import GradientNorms
from rl_logging.extraction.device_slot import added

_OPTIMIZERS: Final[Mapping[str, str]] = {
    "optimizer": "learning_rate",
    "policy_optimizer": "learning_rate/policy",
    "critic_optimizer": "learning_rate/critic",
    "value_optimizer": "learning_rate/value",
}
_SCHEDULERS: Final = ("scheduler", "policy_scheduler", "value_scheduler")


class UpdateProbe:
    """Collects gradient norms and KL divergences while an agent's update runs.

    The norm is there only where the agent clips gradients, and only for agents with a single optimizer: a mean over a
    policy's and a critic's norms would be neither's. A multi-agent's is the mean over its agents. The divergence is
    what a scheduler of skrl's that adapts to it is given.

    Args:
        agent: The skrl agent or multi-agent.

    Attributes:
        finds_something: Whether there may be any, so that it is worth watching.
    """

    def __init__(self, agent: Any) -> None:
        single = getattr(agent, "optimizer", None) is not None or bool(getattr(agent, "optimizers", None))
        self._norms = GradientNorms() if single else None
        self._divergences: dict[str, list[Any]] = {}
        self._schedulers = [
            (f"kl_divergence{suffix}", scheduler)
            for suffix, scheduler in _schedulers(agent)
            if "KL" in type(scheduler).__name__
        ]
        self._undo: list[Callable[[], None]] = []
        self.finds_something = self._norms is not None or bool(self._schedulers)

    def start(self) -> None:
        """Begins to watch the calling thread."""
        if self._norms is not None:
            self._norms.start()
        for name, scheduler in self._schedulers:
            self._undo.append(_overhear(scheduler, self._divergences.setdefault(name, [])))

    def stop(self) -> None:
        """Ends it, and leaves everything as it was."""
        if self._norms is not None:
            self._norms.stop()
        while self._undo:
            self._undo.pop()()

    def drain(self) -> dict[str, Any]:
        """Returns the means since the last call under their canonical names; what is on a CUDA device stays there."""
        values: dict[str, Any] = {}
        norm = self._norms.drain() if self._norms is not None else None
        if norm is not None:
            values["grad_norm"] = norm
        for name, divergences in self._divergences.items():
            if divergences:
                values[name] = added(divergences) / len(divergences)
                divergences.clear()
        return values


def learning_rates(agent: Any) -> dict[str, Any]:
    """Returns the learning rates that the optimizers of `agent` work with, under their canonical names.

    An agent with several optimizers has its policy's (its value function's where only that has one) as
    ``learning_rate`` too, which is what other frameworks mean by it. One on a CUDA device stays there.
    """
    rates = {}
    for attribute, name in _OPTIMIZERS.items():
        rate = _rate(getattr(agent, attribute, None))
        if rate is not None:
            rates[name] = rate
    for uid, optimizer in (getattr(agent, "optimizers", None) or {}).items():
        rate = _rate(optimizer)
        if rate is not None:
            rates[f"learning_rate/{uid}"] = rate
    if "learning_rate" not in rates:
        for name in ("learning_rate/policy", "learning_rate/value"):
            if name in rates:
                rates["learning_rate"] = rates[name]
                break
    return rates


def _rate(optimizer: Any) -> Any:
    groups = getattr(optimizer, "param_groups", None)
    if not groups:
        return None
    rate = groups[0]["lr"]
    return rate if type(rate) is float else added([rate])


def _schedulers(agent: Any) -> Iterator[tuple[str, Any]]:
    for attribute in _SCHEDULERS:
        scheduler = getattr(agent, attribute, None)
        if hasattr(scheduler, "step"):
            yield "", scheduler
    for uid, scheduler in (getattr(agent, "schedulers", None) or {}).items():
        if hasattr(scheduler, "step"):
            yield f"/{uid}", scheduler


def _overhear(scheduler: Any, divergences: list[Any]) -> Callable[[], None]:
    """Appends what this thread gives to ``scheduler.step`` as the divergence; returns how to end that."""
    inner = scheduler.step
    own = "step" in vars(scheduler)
    thread: int | None = threading.get_ident()

    def overhearing(*args: Any, **kwargs: Any) -> Any:
        divergence = args[0] if args else kwargs.get("kl")
        if divergence is not None and threading.get_ident() == thread:
            divergences.append(divergence)
        return inner(*args, **kwargs)

    def restore() -> None:
        nonlocal thread
        thread = None
        if vars(scheduler).get("step") is not overhearing:
            return  # somebody else has put theirs over ours and will call it on
        if own:
            scheduler.step = inner
        else:
            del scheduler.step

    scheduler.step = overhearing
    return restore
