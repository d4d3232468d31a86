"""Letting a policy act beside its training without the training being any different for it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class OwnRandomness:
    """A state of the global random generators that is not the training's: own to whoever acts beside it.

    Policies sample from torch's global generator, DQN explores by NumPy's and the training's action space's, and
    environments of people's own may use any. Inside the ``with`` those go on from where the last one left them; after
    it, they are the training's again.

    Args:
        seed: Of the first time.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._state: _State | None = None

    @contextmanager
    def lent_to(self, model: Any) -> Iterator[None]:
        """Lends it to whoever acts by the policy of `model`, which is being trained; its mode is put back too."""
        device = torch.device(model.device)
        actions = model.action_space.np_random.bit_generator
        training = model.policy.training
        with preserved(device, actions):
            if self._state is None:
                random.seed(self._seed)
                np.random.seed(self._seed)
                torch.manual_seed(self._seed)
                actions.state = type(actions)(self._seed).state
            else:
                self._state.restore(actions)
            try:
                yield
            finally:
                self._state = _State(device, actions)
                model.policy.set_training_mode(training)


@contextmanager
def preserved(device: torch.device | str = "cpu", actions: Any = None) -> Iterator[None]:
    """Leaves the global random generators as they were, and `actions`, a NumPy bit generator.

    Args:
        device: Whose generator of torch's, beside the CPU's.
        actions: An action space's; None: none.
    """
    state = _State(torch.device(device), actions)
    try:
        yield
    finally:
        state.restore(actions)


class _State:
    """The state of Python's, NumPy's and torch's global generators, and of an action space's."""

    def __init__(self, device: torch.device, actions: Any) -> None:
        self._actions = None if actions is None else actions.state
        self._python = random.getstate()
        self._numpy = np.random.get_state()
        self._torch = torch.get_rng_state()
        # Not the other devices': looking at them starts them.
        self._cuda = (
            [torch.cuda.get_rng_state(index) for index in range(torch.cuda.device_count())]
            if device.type == "cuda" or torch.cuda.is_initialized()
            else []
        )
        self._mps = torch.mps.get_rng_state() if device.type == "mps" else None

    def restore(self, actions: Any) -> None:
        """Puts it back, what there is of an action space's into `actions`."""
        if self._actions is not None:
            actions.state = self._actions
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        for index, state in enumerate(self._cuda):
            torch.cuda.set_rng_state(state, index)
        if self._mps is not None:
            torch.mps.set_rng_state(self._mps)


def own_seed(model: Any, purpose: int) -> int:
    """Returns a seed for what acts beside a training: it follows from the training's, and is none of its own.

    Args:
        model: The algorithm; without a seed the result is another one each time.
        purpose: Tells several of them apart.
    """
    seed = getattr(model, "seed", None)
    entropy = np.random.SeedSequence() if seed is None else np.random.SeedSequence([int(seed), purpose])
    return int(entropy.generate_state(1)[0])
