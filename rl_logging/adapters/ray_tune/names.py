"""What RLlib's results, of its new and its old API, are called in a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

from rl_logging.extraction.names import NameTable, Rename

KEPT: Final[Mapping[str, tuple[str, ...]]] = {
    "episode_reward_mean": ("env_runners/episode_return_mean", "sampler_results/episode_reward_mean"),
    "episode_reward_max": ("env_runners/episode_return_max", "sampler_results/episode_reward_max"),
    "episode_reward_min": ("env_runners/episode_return_min", "sampler_results/episode_reward_min"),
    "agent_timesteps_total": (),
    "timesteps_total": (),
    "time_total_s": (),
    "training_iteration": (),
}
"""Names that people filter and rank by, which a run has under whatever names it logs; and what else they are called."""

_OLDER: Final = ("", "env_runners/", "sampler_results/")
_LEARNERS: Final = ("learners/default_policy/", "info/learner/default_policy/learner_stats/", "info/learner/")
_AGENT_STEPS: Final = "env_runners/num_agent_steps_sampled_lifetime/"

_OF_EPISODES: Final = {
    "episode_return_mean": "episode_reward_mean",
    "episode_return_min": "episode_reward_min",
    "episode_return_max": "episode_reward_max",
    "episode_reward_mean": "episode_reward_mean",
    "episode_reward_min": "episode_reward_min",
    "episode_reward_max": "episode_reward_max",
    "episode_len_mean": "episode_length_mean",
    "episode_len_min": "episode_length_min",
    "episode_len_max": "episode_length_max",
    "num_episodes_lifetime": "episodes",
    "episodes_total": "episodes",
}
_OF_LEARNERS: Final = {
    "policy_loss": "policy_loss",
    "vf_loss": "value_loss",
    "total_loss": "total_loss",
    "entropy": "entropy",
    "mean_kl_loss": "kl_divergence",
    "kl": "kl_divergence",
    "qf_loss": "critic_loss",
    "critic_loss": "critic_loss",
    "gradients_default_optimizer_global_norm": "grad_norm",
    "grad_gnorm": "grad_norm",
    "default_optimizer_learning_rate": "learning_rate",
    "cur_lr": "learning_rate",
    "vf_explained_var": "explained_variance",
    "curr_entropy_coeff": "entropy_coefficient",
    "entropy_coeff": "entropy_coefficient",
}


def _renames() -> Iterator[tuple[str, Rename]]:
    for place in _OLDER:
        for native, canonical in _OF_EPISODES.items():
            yield place + native, Rename(canonical)
    for place in _LEARNERS:
        for native, canonical in _OF_LEARNERS.items():
            yield place + native, Rename(canonical)


TABLE: Final = NameTable(dict(_renames()))


def kept(figures: Mapping[str, float]) -> dict[str, float]:
    """Returns a result's figures under the names that a run always has.

    Args:
        figures: The result, flat, under RLlib's own names.
    """
    found: dict[str, float] = {}
    for name, others in KEPT.items():
        native = next((each for each in (name, *others) if each in figures), None)
        if native is not None:
            found[name] = figures[native]
    agents = [value for name, value in figures.items() if name.startswith(_AGENT_STEPS)]
    if agents and "agent_timesteps_total" not in found:
        found["agent_timesteps_total"] = sum(agents)
    return found


def distinct(figures: Mapping[str, float]) -> dict[str, float]:
    """Returns a result's figures without those that it has twice under several names, as RLlib's old results do."""
    firsts: dict[str, str] = {}
    for native in sorted(figures, key=len):
        firsts.setdefault(TABLE.lookup(native).canonical, native)
    return {
        native: value
        for native, value in figures.items()
        if (first := firsts[TABLE.lookup(native).canonical]) == native or not _same(figures[first], value)
    }


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
