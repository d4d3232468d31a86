"""An environment beside the training's, in which its policy acts with a randomness of its own."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import VecEnv

from rl_logging.adapters.stable_baselines3.environments import EnvError, fitted, synchronize
from rl_logging.adapters.stable_baselines3.isolation import OwnRandomness, own_seed


class Beside:
    """An environment for what is done with a policy while it is trained.

    Args:
        bare: The environment, as yet not wrapped as the training's is.
        given: What the user gave for it: an environment that was handed over is the user's to seed and to close.
        what: Whose environment it is, for errors.
        seed: Of the environment and the sampling; None: follows from the training's.
        purpose: Tells those of one training apart.

    Attributes:
        env: The environment, wrapped as the training's is; None before `fit`.
        is_own: Whether it was made here, and is to be closed.
    """

    def __init__(self, bare: VecEnv, given: Any, *, what: str, seed: int | None, purpose: int) -> None:
        self.env: VecEnv | None = None
        self.is_own = not isinstance(given, (gym.Env, VecEnv))
        self._bare = bare
        self._what = what
        self._seed = seed
        self._purpose = purpose
        self._randomness: OwnRandomness | None = None

    def fit(self, model: Any, training_env: VecEnv) -> VecEnv:
        """Wraps it as the environment of a training that begins; returns it.

        Raises:
            EnvError: It does not fit.
        """
        if self._randomness is None:
            seed = self._seed if self._seed is not None else own_seed(model, self._purpose)
            self._randomness = OwnRandomness(seed)
            if self._seed is not None or self.is_own:
                self._bare.seed(seed)
        try:
            self.env = fitted(self._bare, training_env)  # anew: another model's may be wrapped in another way
        except EnvError as error:
            raise EnvError(f"{self._what}: {error}") from None
        return self.env

    def lent_to(self, model: Any, training_env: VecEnv) -> AbstractContextManager[None]:
        """Returns a ``with`` in which the policy of `model` acts in `env`; the training is the same after it."""
        assert self.env is not None
        assert self._randomness is not None
        synchronize(self.env, training_env)
        return self._randomness.lent_to(model)
