"""What skrl computes during an update and tells nobody: gradient norms and KL divergences; and learning rates."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

_OPTIMIZERS: Final[Mapping[str, str]] = {
    "optimizer": "",
    "policy_optimizer": "/policy",
    "critic_optimizer": "/critic",
    "value_optimizer": "/value",
}
_SCHEDULERS: Final = ("scheduler", "policy_scheduler", "value_scheduler")


class UpdateProbe:
    """Collects gradient norms and KL divergences while an agent's update runs.

    The norm is what ``torch.nn.utils.clip_grad_norm_`` returns, so there is one only where the agent clips, and only
    for agents with a single optimizer: a mean over a policy's and a critic's norms would be neither's. The divergence
    is what a scheduler of skrl's that adapts to it is given. Both cost the training nothing but an append.

    Args:
        agent: The skrl agent or multi-agent.
    """

    def __init__(self, agent: Any) -> None:
        self._norms: list[Any] = []
        self._divergences: list[Any] = []
        self._undo: list[Callable[[], None]] = []
        single = getattr(agent, "optimizer", None) is not None or bool(getattr(agent, "optimizers", None))
        self._utils = getattr(getattr(sys.modules.get("torch"), "nn", None), "utils", None) if single else None
        self._schedulers = [scheduler for scheduler in _schedulers(agent) if "KL" in type(scheduler).__name__]

    def start(self) -> None:
        """Begins to watch the calling thread."""
        if self._utils is not None:
            self._undo.append(_listen(self._utils, "clip_grad_norm_", self._take_norm))
        for scheduler in self._schedulers:
            self._undo.append(_listen(scheduler, "step", self._take_divergence))

    def stop(self) -> None:
        """Ends it, and leaves everything as it was."""
        while self._undo:
            self._undo.pop()()

    def drain(self) -> dict[str, float]:
        """Returns the means since the last call under their canonical names; waits for the device the norms are on."""
        values = {}
        if self._norms:
            values["grad_norm"] = _mean(self._norms)
        if self._divergences:
            values["kl_divergence"] = _mean(self._divergences)
        self._norms, self._divergences = [], []
        return values

    def _take_norm(self, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._norms.append(result)

    def _take_divergence(self, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        divergence = args[0] if args else kwargs.get("kl")
        if divergence is not None:
            self._divergences.append(divergence)


def learning_rates(agent: Any) -> dict[str, float]:
    """Returns the learning rates that the optimizers of `agent` work with, under their canonical names.

    An agent with several optimizers has its policy's (its value function's where only that has one) as
    ``learning_rate`` too, which is what other frameworks mean by it.
    """
    rates = {}
    for attribute, suffix in _OPTIMIZERS.items():
        rate = _rate(getattr(agent, attribute, None))
        if rate is not None:
            rates[f"learning_rate{suffix}"] = rate
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


def _rate(optimizer: Any) -> float | None:
    groups = getattr(optimizer, "param_groups", None)
    return float(groups[0]["lr"]) if groups else None


def _schedulers(agent: Any) -> Iterator[Any]:
    for attribute in _SCHEDULERS:
        scheduler = getattr(agent, attribute, None)
        if hasattr(scheduler, "step"):
            yield scheduler
    yield from (getattr(agent, "schedulers", None) or {}).values()


def _mean(values: list[Any]) -> float:
    if hasattr(values[0], "detach"):
        import torch

        return float(torch.stack([torch.as_tensor(value).detach().reshape(()) for value in values]).mean())
    return float(sum(float(value) for value in values) / len(values))


def _listen(
    owner: Any, name: str, take: Callable[[Any, tuple[Any, ...], Mapping[str, Any]], None]
) -> Callable[[], None]:
    """Lets `take` see each result and the arguments of ``owner.name`` in this thread; returns how to end that."""
    inner = getattr(owner, name)
    own = name in vars(owner)
    thread: int | None = threading.get_ident()

    def listening(*args: Any, **kwargs: Any) -> Any:
        result = inner(*args, **kwargs)
        if threading.get_ident() == thread:
            take(result, args, kwargs)
        return result

    def restore() -> None:
        nonlocal thread
        thread = None
        if vars(owner).get(name) is not listening:
            return  # somebody else has put theirs over ours and will call it on
        if own:
            setattr(owner, name, inner)
        else:
            delattr(owner, name)

    setattr(owner, name, listening)
    return restore
