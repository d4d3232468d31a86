"""Evaluating a policy: what came of a few episodes."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

SCORE: Final = "eval/episode_reward_mean"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluation came to.

    Attributes:
        returns: Of its episodes.
        lengths: Of its episodes, in steps.
        successes: 1 or 0 of each episode of which the environment says whether it was a success.
    """

    returns: tuple[float, ...]
    lengths: tuple[float, ...]
    successes: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean return."""
        return statistics.fmean(self.returns)

    def figures(self) -> dict[str, float]:
        """Returns what is logged of it, under canonical names."""
        figures = {
            SCORE: self.mean,
            "eval/episode_reward_std": float(np.std(self.returns)),
            "eval/episode_reward_min": min(self.returns),
            "eval/episode_reward_max": max(self.returns),
            "eval/episode_length_mean": statistics.fmean(self.lengths),
        }
        if self.successes:
            figures["eval/success_rate"] = statistics.fmean(self.successes)
        return figures


def evaluate(model: Any, env: VecEnv, episodes: int, *, deterministic: bool) -> Evaluation:
    """Plays episodes, as stable-baselines3 itself evaluates.

    Args:
        model: The algorithm whose policy acts.
        env: In which.
        episodes: How many.
        deterministic: Whether the policy takes its likeliest action, instead of sampling.
    """
    successes: list[float] = []

    def note_success(local: dict[str, Any], _: dict[str, Any]) -> None:
        success = local["info"].get("is_success") if local["done"] else None
        if success is not None:
            successes.append(float(success))

    returns, lengths = _evaluator(model, env)(
        model,
        env,
        n_eval_episodes=episodes,
        deterministic=deterministic,
        callback=note_success,
        return_episode_rewards=True,
        warn=False,
    )
    return Evaluation(tuple(map(float, returns)), tuple(map(float, lengths)), tuple(successes))


def _evaluator(model: Any, env: VecEnv) -> Callable[..., Any]:
    """Returns what evaluates a policy: for one that is told which actions are possible, what tells it."""
    if any(f"{cls.__module__}.{cls.__name__}".endswith("ppo_mask.MaskablePPO") for cls in type(model).__mro__):
        from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_masked
        from sb3_contrib.common.maskable.utils import is_masking_supported

        if is_masking_supported(env):
            masked: Callable[..., Any] = evaluate_masked
            return masked
    plain: Callable[..., Any] = evaluate_policy
    return plain
