"""Trains PPO on CartPole-v1 in one file, in CleanRL's manner: its arguments, its loop, its names of metrics.

What logs is a `SummaryWriter`, as there; that it logs to a local MLflow store and an offline W&B run, by a journal,
follows from the one line that makes it. Run it as ``python -m rl_logging.examples.cleanrl_ppo``.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

from rl_logging import ExperimentLogger


@dataclass
class Args:
    """What can be given on the command line, as ``--learning-rate 1e-3`` or ``--no-anneal-lr``."""

    exp_name: str = "cleanrl_ppo"
    seed: int = 1
    cuda: bool = False
    capture_video: bool = False
    dir: str = "cartpole"

    env_id: str = "CartPole-v1"
    total_timesteps: int = 100_000
    learning_rate: float = 2.5e-4
    num_envs: int = 4
    num_steps: int = 128
    anneal_lr: bool = True
    gamma: float = 0.99
    gae_lambda: float = 0.95
    num_minibatches: int = 4
    update_epochs: int = 4
    norm_adv: bool = True
    clip_coef: float = 0.2
    clip_vloss: bool = True
    ent_coef: float = 0.01
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5


class Agent(nn.Module):  # type: ignore[misc]
    """A policy and a value function, each with a network of its own.

    Args:
        observations: Length of an observation.
        actions: Number of actions.
    """

    def __init__(self, observations: int, actions: int) -> None:
        super().__init__()
        self.critic = mlp(observations, 1, output_scale=1.0)
        self.actor = mlp(observations, actions, output_scale=0.01)

    def value(self, observation: torch.Tensor) -> torch.Tensor:
        """Returns the values of observations, of shape (N,)."""
        return self.critic(observation).squeeze(-1)

    def act(
        self, observation: torch.Tensor, action: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns actions (drawn, where none are given), their log-probabilities, entropies and values."""
        policy = Categorical(logits=self.actor(observation))
        if action is None:
            action = policy.sample()
        return action, policy.log_prob(action), policy.entropy(), self.value(observation)


def mlp(inputs: int, outputs: int, output_scale: float) -> nn.Sequential:
    """Returns a network with two hidden layers of 64, initialised orthogonally."""
    sizes, layers = [inputs, 64, 64, outputs], []
    for index, (before, after) in enumerate(itertools.pairwise(sizes)):
        layer = nn.Linear(before, after)
        nn.init.orthogonal_(layer.weight, output_scale if index == 2 else 2**0.5)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def make_env(args: Args, index: int, run_name: str) -> Callable[[], gym.Env]:
    """Returns what makes the environment `index`; the first one is recorded where videos are wanted."""

    def thunk() -> gym.Env:
        if args.capture_video and index == 0:
            env = gym.make(args.env_id, render_mode="rgb_array")
            return gym.wrappers.RecordVideo(env, f"{args.dir}/videos/{run_name}")
        return gym.make(args.env_id)

    return thunk


def main() -> None:
    """Trains with the command line's arguments."""
    args = parse()
    batch_size = args.num_envs * args.num_steps
    minibatch_size = batch_size // args.num_minibatches
    num_iterations = max(1, args.total_timesteps // batch_size)
    run_name = f"{args.env_id}__{args.exp_name}__{args.seed}__{int(time.time())}"

    # A finished environment shows its next episode's first observation at once, which older versions do anyway.
    same_step = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP} if hasattr(gym.vector, "AutoresetMode") else {}
    envs = gym.vector.SyncVectorEnv([make_env(args, index, run_name) for index in range(args.num_envs)], **same_step)
    if not isinstance(envs.single_action_space, gym.spaces.Discrete) or len(envs.single_observation_space.shape) != 1:
        raise SystemExit(
            f"--env-id {args.env_id}: this example needs discrete actions and a vector of observations, such as "
            f"CartPole-v1 has; got {envs.single_action_space} and {envs.single_observation_space}"
        )

    # Was: writer = SummaryWriter(f"runs/{run_name}")
    writer = ExperimentLogger({**vars(args), **stores(args.dir)}, name=run_name).summary_writer()
    writer.add_text(
        "hyperparameters",
        "|param|value|\n|-|-|\n" + "\n".join(f"|{key}|{value}|" for key, value in vars(args).items()),
    )
    if args.capture_video:
        writer.logger.watch_videos(f"{args.dir}/videos/{run_name}")

    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() and args.cuda else "cpu")

    agent = Agent(envs.single_observation_space.shape[0], int(envs.single_action_space.n)).to(device)
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)

    shape = (args.num_steps, args.num_envs)
    obs = torch.zeros((*shape, *envs.single_observation_space.shape), device=device)
    actions = torch.zeros(shape, device=device)
    logprobs, rewards, dones, values = (torch.zeros(shape, device=device) for _ in range(4))

    global_step = 0
    start_time = time.time()
    next_obs = torch.as_tensor(envs.reset(seed=args.seed)[0], dtype=torch.float32, device=device)
    next_done = torch.zeros(args.num_envs, device=device)
    episodic_return, episodic_length = np.zeros(args.num_envs), np.zeros(args.num_envs, int)

    for iteration in range(num_iterations):
        if args.anneal_lr:
            optimizer.param_groups[0]["lr"] = (1 - iteration / num_iterations) * args.learning_rate

        for step in range(args.num_steps):
            global_step += args.num_envs
            obs[step], dones[step] = next_obs, next_done
            with torch.no_grad():
                actions[step], logprobs[step], _, values[step] = agent.act(next_obs)
            observation, reward, terminated, truncated, _ = envs.step(actions[step].long().cpu().numpy())
            done = np.logical_or(terminated, truncated)
            rewards[step] = torch.as_tensor(reward, device=device)
            next_obs = torch.as_tensor(observation, dtype=torch.float32, device=device)
            next_done = torch.as_tensor(done, dtype=torch.float32, device=device)

            episodic_return += reward
            episodic_length += 1
            for index in np.flatnonzero(done):
                writer.add_scalar("charts/episodic_return", episodic_return[index], global_step)
                writer.add_scalar("charts/episodic_length", episodic_length[index], global_step)
                episodic_return[index], episodic_length[index] = 0, 0

        with torch.no_grad():
            advantages, following, carried = torch.zeros(shape, device=device), agent.value(next_obs), 0.0
            alive = 1 - next_done
            for step in reversed(range(args.num_steps)):
                delta = rewards[step] + args.gamma * following * alive - values[step]
                advantages[step] = carried = delta + args.gamma * args.gae_lambda * alive * carried
                following, alive = values[step], 1 - dones[step]
            returns = advantages + values

        flat = [tensor.flatten(0, 1) for tensor in (obs, actions, logprobs, advantages, returns, values)]
        clipfracs = []
        for _ in range(args.update_epochs):
            for chosen in torch.randperm(batch_size, device=device).split(minibatch_size):
                b_obs, b_actions, b_logprobs, b_advantages, b_returns, b_values = (tensor[chosen] for tensor in flat)
                _, newlogprob, entropy, newvalue = agent.act(b_obs, b_actions)
                logratio = newlogprob - b_logprobs
                ratio = logratio.exp()
                with torch.no_grad():
                    old_approx_kl = (-logratio).mean()
                    approx_kl = (ratio - 1 - logratio).mean()
                    clipfracs.append(((ratio - 1).abs() > args.clip_coef).float().mean().item())
                if args.norm_adv:
                    b_advantages = (b_advantages - b_advantages.mean()) / (b_advantages.std() + 1e-8)

                clipped = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
                pg_loss = -torch.min(ratio * b_advantages, clipped * b_advantages).mean()
                errors = (newvalue - b_returns) ** 2
                if args.clip_vloss:
                    near = b_values + (newvalue - b_values).clamp(-args.clip_coef, args.clip_coef)
                    errors = torch.max(errors, (near - b_returns) ** 2)
                v_loss = 0.5 * errors.mean()
                entropy_loss = entropy.mean()

                optimizer.zero_grad()
                (pg_loss - args.ent_coef * entropy_loss + args.vf_coef * v_loss).backward()
                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                optimizer.step()

        unexplained, spread = (returns - values).var().item(), returns.var().item()
        writer.add_scalar("charts/learning_rate", optimizer.param_groups[0]["lr"], global_step)
        writer.add_scalar("losses/value_loss", v_loss.item(), global_step)
        writer.add_scalar("losses/policy_loss", pg_loss.item(), global_step)
        writer.add_scalar("losses/entropy", entropy_loss.item(), global_step)
        writer.add_scalar("losses/old_approx_kl", old_approx_kl.item(), global_step)
        writer.add_scalar("losses/approx_kl", approx_kl.item(), global_step)
        writer.add_scalar("losses/clipfrac", np.mean(clipfracs), global_step)
        writer.add_scalar("losses/explained_variance", 1 - unexplained / spread if spread else np.nan, global_step)
        writer.add_scalar("charts/SPS", int(global_step / (time.time() - start_time)), global_step)

    envs.close()
    writer.close()


def stores(folder: str) -> dict[str, Any]:
    """Returns the logger's part of the configuration: a local MLflow store and an offline W&B run below `folder`."""
    return {
        "rl_logging": {"project": "cartpole", "tags": ["example"], "dir": str(Path(folder, "rl_runs"))},
        "mlflow": {"tracking_uri": f"sqlite:///{Path(folder, 'mlflow.db')}"},
        "wandb": {"mode": "offline", "dir": folder},
    }


def parse() -> Args:
    """Returns the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for field in fields(Args):
        kind: dict[str, Any] = {"type": type(field.default)}
        if isinstance(field.default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        parser.add_argument(f"--{field.name.replace('_', '-')}", default=field.default, help=field.name, **kind)
    return Args(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
