"""What stable-baselines3's keys are called in a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rl_logging.extraction.names import NameTable, Rename

EPISODES_WINDOW: Final = 100
"""Finished episodes that the canonical means of episodes are taken over."""

EPISODE_KEYS: Final = frozenset({"rollout/ep_rew_mean", "rollout/ep_len_mean"})
TIMESTEPS_KEY: Final = "time/total_timesteps"
ITERATIONS_KEY: Final = "time/iterations"
FPS_KEY: Final = "time/fps"
OBJECTIVE_KEY: Final = "train/policy_objective"
EPISODE_REWARD_KEY: Final = "train/episode_reward"
EPISODE_LENGTH_KEY: Final = "train/episode_length"

_RENAMES: Final[Mapping[str, str | Rename]] = {
    "rollout/ep_rew_mean": "episode_reward_mean",
    "rollout/ep_len_mean": "episode_length_mean",
    "rollout/success_rate": "success_rate",
    "rollout/exploration_rate": "exploration_rate",
    "train/policy_gradient_loss": "policy_loss",
    "train/policy_loss": "policy_loss",
    "train/actor_loss": "policy_loss",
    OBJECTIVE_KEY: Rename("policy_loss", -1.0),
    "train/value_loss": "value_loss",
    "train/critic_loss": "critic_loss",
    "train/entropy_loss": Rename("entropy", -1.0),
    "train/ent_coef": "entropy_coefficient",
    "train/ent_coef_loss": "entropy_coefficient_loss",
    "train/approx_kl": "kl_divergence",
    "train/kl_divergence_loss": "kl_divergence",
    "train/learning_rate": "learning_rate",
    "train/std": "policy_std",
    FPS_KEY: "fps",
    ITERATIONS_KEY: "iterations",
    # Of ARS, which counts from 0: what others call so is one more.
    "train/iterations": "train/iterations",
    TIMESTEPS_KEY: "timesteps",
    "time/time_elapsed": "time_elapsed",
    "time/episodes": "episodes",
    "eval/mean_reward": "eval/episode_reward_mean",
    "eval/mean_ep_length": "eval/episode_length_mean",
    "eval/success_rate": "eval/success_rate",
}
_GROUPS: Final = ("train/", "rollout/", "time/")


def clean(key: str) -> str:
    """Returns `key` without the group that stable-baselines3 prints it in."""
    for group in _GROUPS:
        if key.startswith(group):
            return key.removeprefix(group)
    return key


def evaluates_candidates(model: Any) -> bool:
    """Returns whether `model` trains by whole episodes of candidates, as ARS does."""
    return hasattr(model, "evaluate_candidates")


def has_canonical_means(model: Any) -> bool:
    """Returns whether what `model` records as means of episodes is over the last `EPISODES_WINDOW` of them."""
    window = getattr(model, "_stats_window_size", None)
    return window == EPISODES_WINDOW and not evaluates_candidates(model)


def keys_of_ours(model: Any, *, follows: bool) -> frozenset[str]:
    """Returns the keys whose canonical names the adapter's own figures have.

    Args:
        model: The algorithm.
        follows: Whether it is logged when its own logger writes.
    """
    # stable-baselines3's count begins at 0 again in each training, the run's clock may not.
    keys = {TIMESTEPS_KEY}
    if not follows or not has_canonical_means(model):
        keys |= EPISODE_KEYS
    if not follows:
        keys |= {FPS_KEY, ITERATIONS_KEY}
    return frozenset(keys)


def name_table(model: Any, ours: frozenset[str]) -> NameTable:
    """Returns the table for what `model`, a stable-baselines3 algorithm, records.

    Args:
        model: The algorithm.
        ours: As `keys_of_ours` says; they keep their full names.
    """
    entries = dict(_RENAMES)
    loss = _loss_of(model)
    if loss is not None:
        entries["train/loss"] = loss
    entries.update({key: key for key in ours})
    return NameTable(entries, clean)


def _loss_of(model: Any) -> str | None:
    """Returns what ``train/loss`` is: of action values in DQN and its kin, in PPO's family the sum of all losses."""
    if hasattr(model, "q_net") or hasattr(model, "quantile_net"):
        return "q_loss"
    return "total_loss" if hasattr(model, "rollout_buffer") else None


class Keys:
    """Says under which keys the values of one training are logged.

    Args:
        model: The algorithm.
        follows: As in `keys_of_ours`.
        canonical: Whether under canonical names alone.

    Attributes:
        table: See `name_table`.
        own_means: Whether the means of episodes are the adapter's own.
        known: What `of` has returned, by the framework's key.
    """

    def __init__(self, model: Any, *, follows: bool, canonical: bool) -> None:
        ours = keys_of_ours(model, follows=follows)
        self.table = name_table(model, ours)
        self.own_means = not ours.isdisjoint(EPISODE_KEYS)
        self._canonical = canonical
        # Under canonical names alone, nothing is logged a second time; but another mean is another figure.
        same = ours if has_canonical_means(model) else ours - EPISODE_KEYS
        self.known: dict[str, tuple[str, ...]] = dict.fromkeys(same, ()) if canonical else {}

    def of(self, key: str) -> tuple[str, ...]:
        """Returns under which keys a value is logged; none where a figure of our own has the name."""
        keys = self.known.get(key)
        if keys is None:
            # An objective by its own name, too, besides the policy loss, which is its negative.
            keys = (key, clean(key)) if self._canonical and key == OBJECTIVE_KEY else (key,)
            self.known[key] = keys
        return keys
