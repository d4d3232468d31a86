"""What an adapter costs a training: the same training with and without it, in turns.

Run it as ``python -m tests.benchmarks adapters``. Each subject of a framework is the same training, anew and with the
same seed; its figure is the CPU time of the training process (the delivery's is its own, and is left out here by
``delivery: offline``). The subjects take turns, each round in the other order, so that a slow spell of the machine
hits all of them; each round gives one ratio to the training without us, and the table shows their middle half. Two
trainings without us, one against the other, show how large a ratio is mere noise; one with a bare ``os.write`` in each
step, what any record there costs at the least.

stable-baselines3's agents have their default settings, and SKRL's are those of ``rl_logging.examples.skrl_training``,
which learn their tasks. Besides, and without a goal, there are trainings by networks of a few neurons, which have next
to nothing to do in a step: more than there nobody will see of an adapter.
"""

from __future__ import annotations

import argparse
import gc
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.bare_write import after_each_step, bare_write
from tests.benchmarks.rows import Row

BASE = "without"
AGAIN = "without, again"
BARE = "a bare os.write in each step"

Train = Callable[[], float]
"""Trains once and returns the CPU seconds it took."""

Measure = Callable[[Callable[[], object]], float]
"""Calls what trains, and returns the figure of interest."""


GOAL = 1.01


def rows(arguments: Sequence[str]) -> list[Row]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks adapters", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=FRAMEWORKS, help="one framework instead of all")
    options = parser.parse_args(arguments)
    logging.getLogger("skrl").setLevel(logging.WARNING)
    torch.set_num_threads(1)  # others would wait for each other by spinning, which is CPU time too
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, subjects in FRAMEWORKS.items():
            if options.only in (None, name):
                seconds = measure(subjects(Path(folder), timed), options.rounds)
                found += [as_row(name, subject, figures) for subject, figures in summarised(seconds).items()]
    return found


def as_row(framework: str, subject: str, figures: dict[str, float]) -> Row:
    """Returns the row of one subject; the trainings without us show the noise, and have no goal."""
    counts = subject not in (BASE, AGAIN, BARE) and framework not in TINY
    return Row(
        name=f"{framework}, {subject if subject in (BASE, AGAIN, BARE) else f'interval: {subject}'}",
        beside="the same training without us",
        goal=f"≤ {GOAL}" if counts else "",
        figure=f"{figures['ratio']:.3f} ({figures['ratio_low']:.3f} to {figures['ratio_high']:.3f})",
        reached=figures["ratio"] <= GOAL if counts else None,
        details=figures,
    )


def measure(subjects: dict[str, Train], rounds: int) -> dict[str, list[float]]:
    """Returns the CPU seconds of each subject, round by round; a first round, which warms up, is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    order = list(subjects)
    for number in range(rounds + 1):
        for name in order:
            gc.collect()
            taken = subjects[name]()
            if number:
                seconds[name].append(taken)
        order.reverse()
    return seconds


def summarised(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Returns each subject's figures; the two trainings without us are the base of all but themselves."""
    both = [(first + second) / 2 for first, second in zip(seconds[BASE], seconds[AGAIN], strict=True)]
    return {
        subject: summarise(series, seconds[BASE] if subject in (BASE, AGAIN) else both)
        for subject, series in seconds.items()
    }


def summarise(series: list[float], base: list[float]) -> dict[str, float]:
    ratios = [taken / without for taken, without in zip(series, base, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return {"cpu_s": statistics.median(series), "ratio": middle, "ratio_low": low, "ratio_high": high}


def turns(train: Callable[[str | None], float]) -> dict[str, Train]:
    """Returns the subjects in the order of their turns: those without us, None, between the others."""
    return {
        BASE: lambda: train(None),
        "framework": lambda: train("framework"),
        BARE: lambda: train(BARE),
        AGAIN: lambda: train(None),
        "step": lambda: train("step"),
    }


def timed(train: Callable[[], object]) -> float:
    begin = time.process_time()
    train()
    return time.process_time() - begin


def logger(folder: Path, interval: str) -> Any:
    """Returns a logger that delivers later."""
    from rl_logging import ExperimentLogger

    config = {"mlflow": {"tracking_uri": f"sqlite:///{folder}/mlflow.db"}, "rl_logging": {"interval": interval}}
    runs = tempfile.mkdtemp(dir=folder)  # of its own, or each logger would tell of the runs before
    return ExperimentLogger(config, dir=runs, delivery="offline", quiet=True)


def stable_baselines3_ppo(folder: Path, timed: Measure) -> dict[str, Train]:
    """PPO on CartPole."""
    from stable_baselines3 import PPO

    return turns(
        lambda interval: sb3_training(
            lambda: PPO("MlpPolicy", "CartPole-v1", seed=0, device="cpu"), 4096, folder, timed, interval
        )
    )


def stable_baselines3_sac(folder: Path, timed: Measure) -> dict[str, Train]:
    """SAC on Pendulum: an update, and so several values recorded, in each step after the first hundred."""
    from stable_baselines3 import SAC

    return turns(
        lambda interval: sb3_training(
            lambda: SAC("MlpPolicy", "Pendulum-v1", seed=0, device="cpu"), 400, folder, timed, interval
        )
    )


def tiny_stable_baselines3_sac(folder: Path, timed: Measure) -> dict[str, Train]:
    """The same with small networks, from nearly the first step on."""
    from stable_baselines3 import SAC

    small: dict[str, Any] = {"learning_starts": 50, "policy_kwargs": {"net_arch": [64, 64]}}
    return turns(
        lambda interval: sb3_training(
            lambda: SAC("MlpPolicy", "Pendulum-v1", seed=0, device="cpu", **small), 600, folder, timed, interval
        )
    )


def sb3_training(make: Callable[[], Any], steps: int, folder: Path, timed: Measure, interval: str | None) -> float:
    """Trains one of stable-baselines3's models, logged or not, and returns what was measured."""
    from rl_logging.adapters.stable_baselines3 import MetricsCallback

    model = make()
    if interval is None:
        return timed(lambda: model.learn(steps))
    if interval == BARE:
        with bare_write(folder) as write:
            return timed(lambda: model.learn(steps, callback=lambda *_: write()))
    with logger(folder, interval) as ours:
        return timed(lambda: model.learn(steps, callback=MetricsCallback(ours)))


def skrl_sac(folder: Path, timed: Measure) -> dict[str, Train]:
    """SAC on Pendulum: an update in each step after the first hundred."""
    return turns(lambda interval: skrl_training(*runner("SAC", "Pendulum-v1", 500, folder), folder, timed, interval))


def skrl_ppo(folder: Path, timed: Measure) -> dict[str, Train]:
    """PPO on CartPole: an update in every 64th step, and an episode's end in every few."""
    return turns(lambda interval: skrl_training(*runner("PPO", "CartPole-v1", 640, folder), folder, timed, interval))


def tiny_skrl_sac(folder: Path, timed: Measure) -> dict[str, Train]:
    """SAC on Pendulum with networks of 16: an update in every step, and skrl's own file written every 50 of them."""
    return turns(lambda interval: skrl_training(*tiny("SAC", 500, folder), folder, timed, interval))


def tiny_skrl_ppo(folder: Path, timed: Measure) -> dict[str, Train]:
    """PPO on CartPole with networks of 16."""
    return turns(lambda interval: skrl_training(*tiny("PPO", 1500, folder), folder, timed, interval))


def runner(algorithm: str, task: str, steps: int, folder: Path) -> tuple[Any, Callable[[], object]]:
    """Returns an agent that learns its task on 8 environments, and what trains it."""
    from skrl.utils.runner.torch import Runner

    from rl_logging.examples.skrl_training.agents import runner_config
    from rl_logging.examples.skrl_training.environments import make_gymnasium

    env = make_gymnasium(task, 8, seed=0, video=None, show=lambda frames, step: None)
    config = runner_config(algorithm, env)
    config["seed"] = 0
    config["agent"]["experiment"] = {"directory": tempfile.mkdtemp(dir=folder), "checkpoint_interval": 0}
    config["trainer"] = {
        "class": "SequentialTrainer",
        "timesteps": steps,
        "headless": True,
        "disable_progressbar": True,
    }
    made = Runner(env, config)
    return made.agent, made.run


def tiny(algorithm: str, steps: int, folder: Path) -> tuple[Any, Callable[[], object]]:
    """Returns an agent with next to nothing to do, and what trains it."""
    from tests.support.skrl_algorithms import AlgorithmTraining

    training = AlgorithmTraining(algorithm, Path(tempfile.mkdtemp(dir=folder)), num_envs=4, write_interval=50)
    return training.agent, training.trainer(steps).train


def skrl_training(agent: Any, train: Callable[[], object], folder: Path, timed: Measure, interval: str | None) -> float:
    """Trains one of skrl's agents, logged or not, and returns what was measured."""
    if interval is None:
        return timed(train)
    if interval == BARE:
        with bare_write(folder) as write:
            after_each_step(agent, write)
            return timed(train)
    with logger(folder, interval) as ours:
        ours.attach(agent)
        return timed(train)


TINY: dict[str, Callable[[Path, Measure], dict[str, Train]]] = {
    "stable-baselines3 SAC, networks of 64": tiny_stable_baselines3_sac,
    "SKRL SAC, networks of 16": tiny_skrl_sac,
    "SKRL PPO, networks of 16": tiny_skrl_ppo,
}

FRAMEWORKS: dict[str, Callable[[Path, Measure], dict[str, Train]]] = {
    "stable-baselines3 PPO": stable_baselines3_ppo,
    "stable-baselines3 SAC": stable_baselines3_sac,
    "SKRL SAC": skrl_sac,
    "SKRL PPO": skrl_ppo,
    **TINY,
}
