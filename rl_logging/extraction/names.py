"""What a framework's metrics are called in a run.

An adapter brings a `NameTable` from its framework's names to canonical ones, which are the same whatever framework
they come from, and mean the same:

========================================  =============================================================================
name                                      meaning
========================================  =============================================================================
``episode_reward``, ``episode_length``    of each episode, where it ended; the mean of those that ended in the same step
``episode_reward_mean``                   mean return of the last 100 finished episodes (also ``_std``, ``_min``,
                                          ``_max``)
``episode_length_mean``                   mean length of the same, in steps of one environment (also ``_std``…)
``success_rate``                          share of recent episodes that the environment calls a success
``timesteps``                             environment steps taken, over all environments
``iterations``                            rollouts (on-policy) or updates (off-policy) so far
``episodes``                              finished episodes so far
``fps``                                   environment steps a second
``time_elapsed``                          seconds since the training began
``rollout_time``, ``learning_time``       seconds of collecting, and of updating, in one iteration
``epoch_time``                            seconds of one iteration: both
``policy_loss``, ``value_loss``           of the actor, and of the state-value function
``critic_loss``, ``q_loss``               of an actor's critics, and of action values that are the policy
``total_loss``                            the weighted sum of several losses
``discriminator_loss``                    of a discriminator
``entropy``                               of the policy: what frameworks log as a loss is its negative
``entropy_coefficient``                   its weight in the objective (also ``_loss``, which tunes it)
``kl_divergence``                         between the policy before and after an update
``learning_rate``                         the optimizer's (``learning_rate/policy``… where there are several)
``policy_std``                            of a Gaussian policy
``exploration_rate``                      epsilon
``exploration_noise``                     of the noise added to actions (``/mean``, ``/min``, ``/max``)
``grad_norm``                             norm of the gradient before it is clipped
``explained_variance``                    of the returns, by the value function
``clip_fraction``, ``clip_range``         of the clipped objective
``n_updates``                             gradient updates so far
``q1``, ``q2``, ``target_q``              of the critics' estimates and their target (``/mean``, ``/min``, ``/max``)
``mean_rewards``                          mean reward of a single step (also ``/min``, ``/max``)
``cumulative_rewards``                    mean, over the environments, of what the present episodes have returned so far
========================================  =============================================================================

An evaluation's have ``eval/`` before them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping


@dataclasses.dataclass(frozen=True)
class Rename:
    """What a framework's name becomes.

    Attributes:
        canonical: The canonical name.
        scale: The factor that makes the value mean what the canonical name says (-1 for a loss that is an objective).
    """

    canonical: str
    scale: float = 1.0


class NameTable:
    """Canonical names for a framework's.

    Args:
        entries: The framework's names to what they become.
        clean: Makes a run's name of one without an entry; None: it stays as it is.
    """

    def __init__(self, entries: Mapping[str, str | Rename], clean: Callable[[str], str] | None = None) -> None:
        self._clean = clean
        self._known = {
            native: entry if isinstance(entry, Rename) else Rename(entry) for native, entry in entries.items()
        }

    def __contains__(self, native: object) -> bool:
        return native in self._known

    def lookup(self, native: str) -> Rename:
        """Returns what `native` becomes; a name without an entry keeps its own, cleaned."""
        return self._known.get(native) or Rename(self.own_name(native))

    def own_name(self, native: str) -> str:
        """Returns `native`'s own name, cleaned, whether or not it has an entry."""
        return (native if self._clean is None else self._clean(native)) or native
