"""How fast a training goes: frames per second, and how its time divides into rollouts and updates."""

from __future__ import annotations

import time


class Progress:
    """Clocks an agent's transitions and updates.

    A multi-agent of skrl 2 updates each of its agents by a call of its own within one step: that is one update here.

    Attributes:
        iterations: Updates so far.
        transitions: Steps of the agent since the beginning.
    """

    def __init__(self) -> None:
        self.iterations = 0
        self.transitions = 0
        self._start_s: float | None = None
        self._rollout_start_s: float | None = None
        self._update_start_s = 0.0
        self._updating_s = 0.0
        self._rollouts_s: list[float] = []
        self._updates_s: list[float] = []

    def begin(self) -> None:
        """Begins to measure: what passed since the last call of anything here was no training."""
        now = time.perf_counter()
        self._start_s = self._rollout_start_s = now
        self.transitions = 0

    def update_begins(self) -> None:
        """Starts an update's clock, and ends the rollout's."""
        now = self._update_start_s = time.perf_counter()
        if self._rollout_start_s is not None:
            self._rollouts_s.append(now - self._rollout_start_s)
            self._rollout_start_s = None

    def update_ends(self) -> None:
        """Stops the update's clock; it may go on with another agent's part."""
        self._updating_s += time.perf_counter() - self._update_start_s

    def step_ends(self) -> bool:
        """Returns whether there was an update since the last call, and begins the next rollout if so."""
        if self._rollout_start_s is not None or not self._updating_s:
            return False
        self._updates_s.append(self._updating_s)
        self._updating_s = 0.0
        self._rollout_start_s = time.perf_counter()
        self.iterations += 1
        return True

    def drain(self, num_envs: int | None) -> dict[str, float]:
        """Returns the figures under their canonical names, times in seconds.

        Frames per second are over the whole training so far, as in other frameworks; durations are means since the
        last call.

        Args:
            num_envs: Environment steps in a transition; None for unknown, and then there are no frames per second.
        """
        values = {"iterations": float(self.iterations)}
        now = time.perf_counter()
        if self._start_s is not None:
            elapsed_s = values["time_elapsed"] = max(now - self._start_s, 1e-9)
            if num_envs is not None and self.transitions:
                values["fps"] = self.transitions * num_envs / elapsed_s
        if self._updates_s:
            learning = values["learning_time"] = sum(self._updates_s) / len(self._updates_s)
            if self._rollouts_s:
                rollout = values["rollout_time"] = sum(self._rollouts_s) / len(self._rollouts_s)
                values["epoch_time"] = rollout + learning
        self._rollouts_s, self._updates_s = [], []
        return values
