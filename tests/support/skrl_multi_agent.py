"""A small real multi-agent skrl training, the same for skrl 1.4.3 and 2.x."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from skrl.envs.wrappers.torch import MultiAgentEnvWrapper
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, Model
from skrl.resources.schedulers.torch import KLAdaptiveLR
from skrl.utils import set_seed

from tests.support.skrl_training import IS_1X, Training, make_models

UIDS = ["left", "right"]
EPISODE_STEPS = 7
_STATE_SIZE = 4


class _Duel:
    """Two agents in several environments that reset themselves in the same step, all at once."""

    num_envs = 3
    num_agents = max_num_agents = 2
    agents = possible_agents = UIDS
    state_spaces = shared_observation_spaces = dict.fromkeys(UIDS, gymnasium.spaces.Box(-1, 1, (_STATE_SIZE,)))
    observation_spaces = dict.fromkeys(UIDS, gymnasium.spaces.Box(-1, 1, (2,)))
    action_spaces = dict.fromkeys(UIDS, gymnasium.spaces.Discrete(2))
    device = "cpu"


class _DuelWrapper(MultiAgentEnvWrapper):
    def __init__(self, finished: list[tuple[float, int, int]]) -> None:
        super().__init__(_Duel())
        self._random = np.random.default_rng(5)
        self._finished = finished
        self._steps = 0
        self._returns = np.zeros(_Duel.num_envs)

    def _observations(self) -> dict[str, torch.Tensor]:
        return {uid: torch.rand(_Duel.num_envs, 2) for uid in UIDS}

    def reset(self) -> Any:
        return self._observations(), {}

    def step(self, actions: dict[str, torch.Tensor]) -> Any:
        rewards = {uid: self._random.random((_Duel.num_envs, 1)).astype(np.float32) for uid in UIDS}
        self._returns += sum(rewards.values())[:, 0]
        self._steps += 1
        ended = self._steps % EPISODE_STEPS == 0
        if ended:
            self._finished.extend((value, EPISODE_STEPS, index) for index, value in enumerate(self._returns))
            self._returns[:] = 0
        terminated = {uid: torch.full((_Duel.num_envs, 1), ended) for uid in UIDS}
        truncated = {uid: torch.zeros((_Duel.num_envs, 1), dtype=torch.bool) for uid in UIDS}
        return (
            self._observations(),
            {uid: torch.from_numpy(reward) for uid, reward in rewards.items()},
            terminated,
            truncated,
            {},
        )

    def state(self) -> Any:
        state = torch.rand(_Duel.num_envs, _STATE_SIZE)
        return state if IS_1X else dict.fromkeys(UIDS, state)

    def render(self, *args: Any, **kwargs: Any) -> None:
        """Shows nothing."""

    def close(self) -> None:
        """Holds nothing."""


class MultiAgentTraining(Training):
    """PPO of two agents.

    Args:
        directory: Where skrl writes.
        algorithm: IPPO, where each learns alone, or MAPPO, where their values see the whole.
        write_interval: As skrl's.
        adapts_rate: Whether learning rates follow the divergence.
    """

    def __init__(
        self, directory: Path, algorithm: str = "IPPO", *, write_interval: int = 20, adapts_rate: bool = False
    ) -> None:
        set_seed(7)
        torch.set_num_threads(1)
        self.directory = directory
        self.finished = []
        self.env = _DuelWrapper(self.finished)
        module = importlib.import_module(f"skrl.multi_agents.torch.{algorithm.lower()}")
        cfg: dict[str, Any] = {
            "rollouts": 8,
            "learning_epochs": 2,
            "mini_batches": 2,
            "entropy_loss_scale": 0.01,
            "experiment": {
                "directory": str(directory),
                "experiment_name": "run",
                "write_interval": write_interval,
                "checkpoint_interval": 0,
            },
        }
        if adapts_rate:
            cfg["learning_rate_scheduler"] = KLAdaptiveLR
        if IS_1X:
            cfg = {**getattr(module, f"{algorithm}_DEFAULT_CONFIG"), **cfg}
        else:
            # 2.x takes an empty mapping, its own default, for one that lacks the agents.
            for owner in (
                "learning_rate_scheduler",
                "observation_preprocessor",
                "state_preprocessor",
                "value_preprocessor",
            ):
                cfg[f"{owner}_kwargs"] = {uid: {} for uid in UIDS}
        spaces: dict[str, Any] = {"observation_spaces": _Duel.observation_spaces, "action_spaces": _Duel.action_spaces}
        if not IS_1X:
            spaces["state_spaces"] = _Duel.state_spaces
        elif algorithm == "MAPPO":
            spaces["shared_observation_spaces"] = _Duel.shared_observation_spaces
        self.agent = getattr(module, algorithm)(
            possible_agents=UIDS,
            models={uid: _models(algorithm, uid) for uid in UIDS},
            memories={uid: RandomMemory(memory_size=8, num_envs=_Duel.num_envs, device="cpu") for uid in UIDS},
            cfg=cfg,
            device="cpu",
            **spaces,
        )


def _models(algorithm: str, uid: str) -> dict[str, Any]:
    spaces = {"observation_space": _Duel.observation_spaces[uid], "action_space": _Duel.action_spaces[uid]}
    models = make_models("PPO", spaces)
    if algorithm == "MAPPO":
        models["value"] = _StateValue(spaces)
    return models


class _StateValue(DeterministicMixin, Model):
    """A value of the state that all agents share."""

    def __init__(self, spaces: dict[str, Any]) -> None:
        Model.__init__(self, **spaces, device="cpu")
        DeterministicMixin.__init__(self)
        self.net = torch.nn.Linear(_STATE_SIZE, 1)

    def compute(self, inputs: Any, role: str = "") -> Any:
        return self.net(inputs["states"]), {}
