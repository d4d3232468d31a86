"""Real skrl trainings, compared with what skrl itself wrote. Passes under skrl 1.4.3 and 2.x alike."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("skrl")
import torch

from rl_logging.adapters.skrl import attach
from rl_logging.adapters.skrl import episodes as episodes_module
from rl_logging.adapters.skrl.names import clean, name_table
from rl_logging.extraction.pipeline import Pipeline
from rl_logging.testing import RecordingLogger
from tests.support.skrl_algorithms import AlgorithmTraining
from tests.support.skrl_logger import FakeLogger, same
from tests.support.skrl_multi_agent import MultiAgentTraining
from tests.support.skrl_training import IS_1X, Training

ALGORITHMS = ("PPO", "SAC", "DQN", "TD3")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_points_are_those_of_skrls_own_file_and_the_last_window(algorithm: str, tmp_path: Path) -> None:
    training = Training(algorithm, tmp_path, num_envs=4, write_interval=20)
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    training.trainer(130).train()
    handle.detach()

    points = logger.points()
    table = name_table(training.agent)
    scalars = training.scalars()
    assert len(scalars) >= 10
    for tag, written in scalars.items():
        rename = table.lookup(tag)
        ours = dict(points[rename.canonical])
        ours.pop(130 * 4, None)
        assert same(ours, {step * 4: value * rename.scale for step, value in written.items()}), tag
    assert max(max(written) for written in scalars.values()) == 120
    # What skrl dropped: 10 steps after its last write.
    assert set(points["mean_rewards"]) == {step * 4 for step in (20, 40, 60, 80, 100, 120, 130)}
    assert points["mean_rewards"][520] == pytest.approx(
        float(np.mean(training.agent.tracking_data["Reward / Instantaneous reward (mean)"]))
    )
    assert logger.warnings == {}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_episode_means_are_the_true_returns(algorithm: str, tmp_path: Path) -> None:
    # PPO then adds to the rewards of the transition in place.
    options = {"time_limit_bootstrap": True} if algorithm == "PPO" else {}
    training = Training(algorithm, tmp_path, num_envs=3, max_episode_steps=15, options=options)
    logger = FakeLogger()
    attach(logger, training.agent)
    training.trainer(140).train()
    logger.finish()

    points = logger.points()
    last = training.finished[-100:]
    assert len(last) > 10
    for name, values in (("reward", [it[0] for it in last]), ("length", [it[1] for it in last])):
        assert points[f"episode_{name}_mean"][140 * 3] == pytest.approx(float(np.mean(values)), rel=1e-5)
        assert points[f"episode_{name}_min"][140 * 3] == pytest.approx(min(values), rel=1e-5)
        assert points[f"episode_{name}_max"][140 * 3] == pytest.approx(max(values), rel=1e-5)


def test_a_lone_environment_counts_its_episodes_over_training_and_evaluation(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path, num_envs=0)
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    training.trainer(90).train()
    trained = list(training.finished)
    training.trainer(70).eval()
    handle.detach()

    evaluated = training.finished[len(trained) :]
    points = logger.points()
    assert trained
    assert evaluated
    assert points["episode_reward_mean"][90] == pytest.approx(float(np.mean([it[0] for it in trained])))
    assert points["episode_length_mean"][90] == pytest.approx(float(np.mean([it[1] for it in trained])))
    assert points["eval/episode_reward_mean"][90] == pytest.approx(float(np.mean([it[0] for it in evaluated])))
    assert points["eval/episode_length_mean"][90] == pytest.approx(float(np.mean([it[1] for it in evaluated])))


@pytest.mark.parametrize("num_envs", [0, 3])
def test_episodes_under_way_at_the_attachment_do_not_count(num_envs: int, tmp_path: Path) -> None:
    training = Training("DQN", tmp_path, num_envs=num_envs)
    training.trainer(35).train()
    under_way = max(num_envs, 1)
    before = len(training.finished)
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    training.trainer(95).train()
    handle.detach()
    # A lone environment starts a new episode with the training, others go on with theirs.
    whole = training.whole_since(before) if num_envs else training.finished[before:]
    assert 0 < len(whole) <= 100
    points = logger.points()
    step = 95 * under_way
    assert points["episode_reward_mean"][step] == pytest.approx(float(np.mean([it[0] for it in whole])))
    assert points["episode_length_mean"][step] == pytest.approx(float(np.mean([it[1] for it in whole])))
    assert points["episode_length_min"][step] == min(it[1] for it in whole)


@pytest.mark.parametrize("resets_in_a_step", [True, False])
def test_returns_can_stay_on_a_device(resets_in_a_step: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a device at hand: the way tensors on one go, with tensors that are not."""
    generator = np.random.default_rng(3)
    rewards = generator.normal(size=(50, 3, 1)).astype(np.float32)
    ended = generator.random((50, 3, 1)) < 0.2
    counted = []
    for on_device in (False, True):
        monkeypatch.setattr(episodes_module, "_on_device", lambda values, on_device=on_device: on_device)
        episodes = episodes_module.Episodes(resets_in_a_step=resets_in_a_step)
        finished: list[tuple[float, int]] = []
        for reward, end in zip(rewards, ended, strict=True):
            given = torch.from_numpy(reward.copy())
            episodes.add(given)
            finished += episodes.end(torch.from_numpy(end), torch.zeros_like(torch.from_numpy(end)))
            assert (given.numpy() == reward).all()
        counted.append(finished)
    assert len(counted[0]) == ended.sum()
    np.testing.assert_allclose(counted[0], counted[1], rtol=1e-5, atol=1e-5)


def test_a_multi_agents_tags_end_in_the_agents_id(tmp_path: Path) -> None:
    training = MultiAgentTraining(tmp_path)
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    training.trainer(50).train()
    handle.detach()

    points = logger.points()
    table = name_table(training.agent)
    for tag, written in training.scalars().items():
        rename = table.lookup(tag)
        ours = dict(points[rename.canonical])
        ours.pop(150, None)
        assert same(ours, {step * 3: value * rename.scale for step, value in written.items()}), tag
    assert set(points["policy_loss/left"]) == {60, 120, 150}
    assert 0 < points["entropy/right"][150] <= math.log(2) + 1e-6
    assert points["learning_rate/left"][150] == 1e-3
    assert points["iterations"] == {60: 2, 120: 5, 150: 6}
    assert points["episode_reward_mean"][150] == pytest.approx(float(np.mean([it[0] for it in training.finished])))
    assert points["episode_length_mean"][150] == 7
    assert logger.warnings == {}


def test_what_the_adapter_adds(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path, num_envs=4)
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    training.trainer(64).train()
    handle.detach()

    points = logger.points()
    assert points["learning_rate"][64 * 4] == 1e-3
    assert points["timesteps"] == {step * 4: step * 4 for step in (20, 40, 60, 64)}
    assert points["iterations"] == {80: 1, 160: 2, 240: 3, 256: 4}
    assert set(points["policy_loss"]) == {80, 160, 240, 256}
    assert all(0 < value <= math.log(2) + 1e-6 for value in points["entropy"].values())
    assert all(value > 0 for name in ("fps", "rollout_time", "learning_time") for value in points[name].values())
    assert all(value > 0 for value in points["grad_norm"].values())
    update_time_ms = training.scalars().get("Stats / Algorithm update time (ms)", {})
    assert bool(update_time_ms) is not IS_1X
    for step, value in update_time_ms.items():
        assert points["learning_time"][step * 4] == pytest.approx(value / 1000, rel=1e-6)
    assert all(value > points["rollout_time"][step] for step, value in points["epoch_time"].items())
    assert logger.read_clock is None


def test_the_divergence_is_what_the_scheduler_saw(tmp_path: Path) -> None:
    from skrl.resources.schedulers.torch import KLAdaptiveLR

    training = Training("PPO", tmp_path, options={"learning_rate_scheduler": KLAdaptiveLR})
    scheduler = training.agent.scheduler
    seen: list[float] = []
    inner = scheduler.step
    scheduler.step = lambda kl: (seen.append(kl), inner(kl))[1]
    logger = FakeLogger(interval="rollout")
    handle = attach(logger, training.agent)
    training.trainer(32).train()
    handle.detach()

    points = logger.points()
    assert len(seen) == 4
    assert points["kl_divergence"] == {64: pytest.approx(np.mean(seen[:2])), 128: pytest.approx(np.mean(seen[2:]))}
    # skrl tracks the rate where there is a scheduler.
    assert points["learning_rate"][128] == pytest.approx(scheduler.get_last_lr()[0])


def test_sac_has_its_policys_rate_and_no_entropy_that_is_none(tmp_path: Path) -> None:
    training = Training("SAC", tmp_path)
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    training.trainer(40).train()
    handle.detach()
    points = logger.points()
    assert {"learning_rate", "learning_rate/policy", "learning_rate/critic"} <= points.keys()
    assert {
        "entropy_coefficient",
        "entropy_coefficient_loss",
        "critic_loss",
        "q1/max",
        "target_q/mean",
    } <= points.keys()
    assert "entropy" not in points
    assert "grad_norm" not in points


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_detach_leaves_the_agent_as_found(algorithm: str, tmp_path: Path) -> None:
    training = Training(algorithm, tmp_path)
    before = dict(vars(training.agent))
    handle = attach(FakeLogger(), training.agent)
    assert vars(training.agent).keys() != before.keys()
    handle.detach()
    handle.detach()
    assert vars(training.agent) == before
    assert not handle.attached


def test_an_attachment_changes_no_training(tmp_path: Path) -> None:
    def weights(attached: bool) -> Any:
        training = Training("PPO", tmp_path / str(attached))
        if attached:
            attach(FakeLogger(interval="step"), training.agent)
        training.trainer(60).train()
        return training.agent.policy.net[0].weight.detach().numpy()

    np.testing.assert_array_equal(weights(True), weights(False))


def test_a_hook_put_over_ours_stays(tmp_path: Path) -> None:
    training = Training("DQN", tmp_path)
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    inner = training.agent.write_tracking_data
    calls = []

    def theirs(*args: Any, **kwargs: Any) -> None:
        calls.append(1)
        inner(*args, **kwargs)

    training.agent.write_tracking_data = theirs
    training.trainer(30).train()
    handle.detach()
    rows = len(logger.rows)
    assert sum("timesteps" in values for _, values in logger.rows) == 2
    training.trainer(40).train()
    assert training.agent.write_tracking_data is theirs
    assert len(calls) == 3
    assert len(logger.rows) == rows


def test_native_names_are_skrls(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path)
    logger = FakeLogger(names="native")
    handle = attach(logger, training.agent)
    training.trainer(40).train()
    handle.detach()
    points = logger.points()
    for tag, written in training.scalars().items():
        assert same(points[tag], {step * 4: value for step, value in written.items()}), tag


@pytest.mark.parametrize(("interval", "every"), [("step", 1), ("balanced", 10), (7, 7)])
@pytest.mark.parametrize("write_interval", [12, 0])
def test_intervals_see_each_value_once(interval: str | int, every: int, write_interval: int, tmp_path: Path) -> None:
    training = Training("SAC", tmp_path, num_envs=2, write_interval=write_interval)
    logger = FakeLogger(interval=interval)
    losses: list[float] = []
    track = training.agent.track_data

    def tracking(tag: str, value: float) -> None:
        if tag == "Loss / Critic loss":
            losses.append(value)
        track(tag, value)

    training.agent.track_data = tracking
    handle = attach(logger, training.agent)
    training.trainer(50).train()
    handle.detach()

    points = logger.points()
    starts = list(range(0, 50, every))
    assert set(points["mean_rewards"]) == {min(start + every, 50) * 2 for start in starts}
    assert len(losses) == 40
    by_step = dict(zip(range(11, 51), losses, strict=True))
    for end in [min(start + every, 50) for start in starts]:
        values = [by_step[step] for step in range(end - (end - 1) % every, end + 1) if step in by_step]
        if values:
            assert points["critic_loss"][end * 2] == pytest.approx(np.mean(values), rel=1e-6)
    assert len(points["critic_loss"]) == len({(step - 1) // every for step in by_step})


def test_rollouts_are_an_interval(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path)
    logger = FakeLogger(interval="rollout")
    handle = attach(logger, training.agent)
    training.trainer(40).train()
    handle.detach()
    points = logger.points()
    assert set(points["policy_loss"]) == {16 * 4, 32 * 4}
    assert set(points["mean_rewards"]) == {16 * 4, 32 * 4, 40 * 4}


@pytest.mark.parametrize("write_interval", ["auto", 0])
def test_an_agent_that_writes_nothing_is_logged_all_the_same(write_interval: str | int, tmp_path: Path) -> None:
    training = Training("SAC", tmp_path, write_interval=write_interval)
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    training.trainer(50).train()
    assert not list(tmp_path.glob("run/events*"))
    assert len(training.agent.tracking_data) == 0
    handle.detach()
    points = logger.points()
    assert set(points["mean_rewards"]) == {step * 4 for step in range(2, 51)}
    assert set(points["critic_loss"]) == {step * 4 for step in range(11, 51)}
    assert training.agent.write_interval == 0
    assert logger.warnings == {}


def test_the_framework_clock_counts_the_agents_steps(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path)
    logger = FakeLogger(clock="framework")
    handle = attach(logger, training.agent)
    training.trainer(40).train()
    assert logger.read_clock is not None
    assert logger.read_clock() == 40
    handle.detach()
    assert logger.points()["timesteps"] == {20: 80, 40: 160}


def test_the_first_transition_tells_how_many_environments_there_are(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path, num_envs=3)
    logger = FakeLogger()
    logger.num_envs = 1
    handle = attach(logger, training.agent)
    training.trainer(20).train()
    assert logger.read_clock is not None
    assert logger.read_clock() == 60
    handle.detach()
    assert set(logger.points()["mean_rewards"]) == {60}
    assert "3 environments" in logger.warnings["skrl/num_envs"]
    assert logger.merged_config()["num_envs"] == 3


def test_num_envs_and_the_initial_step_as_given(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path, num_envs=2)
    logger = FakeLogger()
    handle = attach(logger, training.agent, num_envs=8, initial_step=1000)
    training.trainer(20).train()
    handle.detach()
    assert set(logger.points()["mean_rewards"]) == {1160}
    with pytest.raises(ValueError, match="num_envs"):
        attach(logger, training.agent, num_envs=0)
    with pytest.raises(ValueError, match=r"initial_step: got 'x', must be a number"):
        attach(logger, training.agent, initial_step="x")  # type: ignore[arg-type]


@pytest.mark.parametrize(("on_step_reset", "first"), [("continue", 1000), ("restart", 0)])
@pytest.mark.parametrize("attached_before", [True, False])
def test_a_training_goes_on_where_a_state_has_set_the_clock(
    on_step_reset: str, first: int, attached_before: bool, tmp_path: Path
) -> None:
    training = Training("PPO", tmp_path, num_envs=2)
    with RecordingLogger({"rl_logging": {"on_step_reset": on_step_reset}}) as logger:
        if attached_before:
            logger.attach(training.agent)
        logger.load_state_dict({"step": 1000})
        with pytest.raises(AttributeError):
            attach(logger, object())
        logger.attach(training.agent)
        training.trainer(20).train()
        assert logger.step == first + 40


@pytest.mark.parametrize(("on_step_reset", "steps"), [("continue", [80, 160]), ("restart", [80, 80])])
def test_an_agent_attached_after_another_goes_on_with_the_clock(
    on_step_reset: str, steps: list[int], tmp_path: Path
) -> None:
    with RecordingLogger({"rl_logging": {"on_step_reset": on_step_reset}}) as logger:
        seen = []
        for folder in ("first", "second"):
            training = Training("PPO", tmp_path / folder)
            handle = logger.attach(training.agent)
            training.trainer(20).train()
            seen.append(logger.step)
            handle.detach()
    assert seen == steps


def test_a_second_training_goes_on_with_the_clock(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path)
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    training.trainer(50).train()
    training.trainer(30).train()
    handle.detach()
    points = logger.points()
    assert set(points["mean_rewards"]) == {step * 4 for step in (20, 40, 50, 70, 80)}
    assert points["timesteps"][80 * 4] == 80 * 4
    assert len(logger.warnings) == 1


@pytest.mark.parametrize("interval", ["framework", "step", "rollout"])
def test_an_evaluation_is_one_point_where_the_training_stands(interval: str, tmp_path: Path) -> None:
    training = Training("PPO", tmp_path, num_envs=2, write_interval=20)
    logger = FakeLogger(interval=interval)
    handle = attach(logger, training.agent)
    training.trainer(50).train()
    trained = len(training.finished)
    tracked: dict[str, list[float]] = {}
    for steps in (130, 30):
        for values in tracked.values():
            values.clear()
        tracked = everything_tracked(training.agent)
        training.trainer(steps).eval()
        # Known at its end, not only with what comes after.
        (last_step, values), *_ = reversed(logger.rows)
        assert last_step == 100
        for name, tag in (
            ("mean_rewards", "Reward / Instantaneous reward (mean)"),
            ("mean_rewards/max", "Reward / Instantaneous reward (max)"),
        ):
            reduce = max if "max" in name else np.mean
            assert len(tracked[tag]) == steps
            assert values[f"eval/{name}"] == pytest.approx(reduce(tracked[tag]))
        returns = [it[0] for it in training.finished[trained:]]
        assert values["eval/episode_reward_mean"] == pytest.approx(np.mean(returns))
        assert values["eval/episode_reward"] == pytest.approx(np.mean(returns))
        trained = len(training.finished)
        assert logger.read_clock is not None
        assert logger.read_clock() == 100
    training.trainer(20).train()
    assert logger.read_clock() == 140
    handle.detach()

    evaluations = [(step, set(values)) for step, values in logger.rows if any("eval/" in name for name in values)]
    assert [step for step, _ in evaluations] == [100, 100]
    assert all(name.startswith("eval/") for _, names in evaluations for name in names)
    assert not {"eval/policy_loss", "eval/timesteps", "eval/fps"} & evaluations[0][1]
    steps = [step for step, values in logger.rows if "mean_rewards" in values and step is not None]
    assert steps == sorted(set(steps))
    assert steps[-1] == 140
    assert logger.warnings.keys() <= {"clock/step_reset"}


def everything_tracked(agent: Any) -> dict[str, list[float]]:
    """Returns what skrl tracks of rewards from now on, in lists that it does not clear."""
    kept: dict[str, list[float]] = {}

    class Kept(list[float]):
        def __init__(self, tag: str) -> None:
            super().__init__()
            self.all = kept.setdefault(tag, [])

        def append(self, value: float) -> None:
            self.all.append(value)
            super().append(value)

    class Data(dict[str, Kept]):
        def __missing__(self, tag: str) -> Kept:
            self[tag] = Kept(tag)
            return self[tag]

    agent.tracking_data = Data()
    return kept


def test_checkpoints_are_logged_once(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path, checkpoint_interval=20)
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    training.trainer(60).train()
    training.agent.write_checkpoint(timestep=60, timesteps=60)
    handle.detach()
    agents = [model for model in logger.models if model["name"] == "agent"]
    assert [model["step"] for model in agents] == [80, 160, 240]
    assert [Path(model["model"]).name for model in agents] == ["agent_20.pt", "agent_40.pt", "agent_60.pt"]
    # What it was worth: the returns at that step, which are emitted just after.
    returns = logger.points()["episode_reward_mean"]
    assert [model["metadata"] for model in agents] == [
        {"framework_step": step, "file": f"agent_{step}.pt", "reward": returns[step * 4]} for step in (20, 40, 60)
    ]
    best = [model for model in logger.models if model["name"] == "best_agent"]
    assert 1 <= len(best) <= 3
    assert all(model["aliases"] == ("best",) for model in best)
    chosen_by = training.agent.checkpoint_best_modules
    assert best[-1]["metadata"]["reward"] == chosen_by["reward"]
    assert best[-1]["step"] == chosen_by["timestep"] * 4
    assert len(logger.models) == len(agents) + len(best)


def test_the_modules_of_a_checkpoint_that_are_stored_separately(tmp_path: Path) -> None:
    training = AlgorithmTraining(
        "SAC", tmp_path, experiment={"checkpoint_interval": 20, "store_separately": True}, write_interval=50
    )
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    training.trainer(20).train()
    handle.detach()
    modules = set(training.agent.checkpoint_modules)
    assert {"policy", "critic_1", "policy_optimizer"} <= modules
    assert {model["name"] for model in logger.models} == modules
    assert all(model["step"] == 60 for model in logger.models)
    # No episode has ended: what such a checkpoint is worth is not known, and skrl calls none the best.
    assert all("reward" not in model["metadata"] for model in logger.models)


def test_checkpoints_can_be_left_out(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path, checkpoint_interval=20)
    logger = FakeLogger()
    attach(logger, training.agent, checkpoints=False)
    training.trainer(20).train()
    assert logger.models == []
    assert list(tmp_path.glob("run/checkpoints/agent_20.pt"))


@pytest.mark.parametrize(("broken", "interval"), [("canonical", "framework"), ("emit", "framework"), ("emit", 5)])
def test_a_failing_logger_fails_no_training(
    broken: str, interval: str | int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("full")

    monkeypatch.setattr(Pipeline, broken, fail)
    training = Training("PPO", tmp_path, checkpoint_interval=20)
    logger = FakeLogger(interval=interval)
    monkeypatch.setattr(logger, "save_model", fail)
    handle = attach(logger, training.agent)
    training.trainer(45).train()
    handle.detach()
    assert sorted(training.scalars()["Reward / Instantaneous reward (mean)"]) == [20, 40]
    assert len(list(tmp_path.glob("run/checkpoints/agent_*.pt"))) == 2
    assert 2 <= len(logger.warnings) <= 4
    assert all("full" in message for message in logger.warnings.values())


def test_the_originals_error_is_the_trainings_own(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path)
    update = "_update" if IS_1X else "update"
    calls = []

    def fail(*args: Any, **kwargs: Any) -> None:
        calls.append(1)
        raise ZeroDivisionError

    setattr(training.agent, update, fail)
    handle = attach(FakeLogger(), training.agent)
    with pytest.raises(ZeroDivisionError):
        training.trainer(40).train()
    assert len(calls) == 1
    handle.detach()
    assert vars(training.agent)[update] is fail


def test_second_attachments(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path)
    first, second = FakeLogger(), FakeLogger()
    handle = attach(first, training.agent)
    assert attach(first, training.agent) is handle
    assert list(first.warnings) == ["skrl/attached"]
    training.trainer(30).train()
    other = attach(second, training.agent)
    assert other is not handle
    assert not handle.attached
    assert set(first.points()["mean_rewards"]) == {80, 120}
    training.trainer(20).train()
    other.detach()
    assert set(second.points()["mean_rewards"]) == {80}


def test_a_copy_of_an_attached_agent_trains_unlogged(tmp_path: Path) -> None:
    training = Training("DQN", tmp_path)
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    for duplicate in (copy.deepcopy(training.agent), pickle.loads(pickle.dumps(training.agent))):
        duplicate.write_interval = 1
        duplicate.track_data("x", 1.0)
        written = []
        duplicate.writer = SimpleNamespace(add_scalar=lambda *args, written=written, **kwargs: written.append(kwargs))
        duplicate.write_tracking_data(timestep=1, timesteps=1)
        assert len(written) == 1
    assert "skrl/copied" in logger.warnings
    # Nothing listens any more to a copy that never spoke.
    assert [thread for thread in threading.enumerate() if thread.name == "rl_logging-relay"]
    handle.detach()
    assert not [thread for thread in threading.enumerate() if thread.name == "rl_logging-relay"]
    assert logger.rows == []
    assert list(logger.warnings) == ["skrl/copied"]


def test_an_agent_in_training_takes_nothing_along_that_would_be_logged_twice(tmp_path: Path) -> None:
    training = Training("DQN", tmp_path)
    handle = attach(FakeLogger(), training.agent)
    training.trainer(5).train()
    training.agent.writer.close()
    training.agent.writer = None  # a file cannot be pickled
    pickle.loads(pickle.dumps(training.agent))
    assert not [thread for thread in threading.enumerate() if thread.name == "rl_logging-relay"]
    handle.detach()


def test_a_runner_or_a_trainer_will_do(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path)
    trainer = training.trainer(20)
    runner = SimpleNamespace(agent=training.agent, trainer=trainer, _cfg={"seed": 11})
    logger = FakeLogger()
    attach(logger, runner).detach()
    config = logger.merged_config()
    assert config["seed"] == 11
    assert config["num_envs"] == 4
    assert config["env"]["id"] == "CartPole-v1"
    algo = config["algo"]
    assert (algo["framework"], algo["class"]) == ("skrl", "PPO")
    assert algo["cfg"]["entropy_loss_scale"] == 0.01
    assert algo["cfg"]["experiment"]["write_interval"] == 20
    assert algo["models"] == {"policy": "_DiscretePolicy", "value": "_Value"}
    assert algo["memory"] == {"class": "RandomMemory", "memory_size": 16}
    assert (algo["trainer"]["class"], algo["trainer"]["timesteps"]) == ("SequentialTrainer", 20)
    assert attach(logger, trainer).attached


def test_what_an_agent_does_not_know_is_found_with_its_first_transition(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path)
    logger = FakeLogger()
    attach(logger, training.agent)
    assert not {"env", "seed", "num_envs"} & logger.merged_config().keys()
    training.trainer(2).train()
    config = logger.merged_config()
    assert config["env"]["id"] == "CartPole-v1"
    assert config["seed"] == 7
    assert config["num_envs"] == 4
    assert config["algo"]["trainer"]["timesteps"] == 2
    assert len(logger.config) == 2


def test_what_has_no_tracking_data_is_refused() -> None:
    class Thing:
        pass

    expected = (
        "Agent must have 'tracking_data' attribute for MLflow metric logging. "
        "Agent type Thing does not support metric tracking."
    )
    for unfit in (Thing(), SimpleNamespace(agent=Thing())):
        with pytest.raises(AttributeError) as caught:
            attach(FakeLogger(), unfit)
        assert str(caught.value) == expected


def test_skrls_own_wandb_run_is_warned_of(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path)
    if IS_1X:
        training.agent.cfg["experiment"]["wandb"] = True
    else:
        training.agent.cfg.experiment.wandb = True
    logger = FakeLogger()
    attach(logger, training.agent)
    assert "experiment.wandb" in logger.warnings["skrl/wandb"]


def test_other_ranks_do_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import skrl

    training = Training("PPO", tmp_path)
    before = dict(vars(training.agent))
    monkeypatch.setattr(skrl.config.torch, "_is_distributed", True)
    monkeypatch.setattr(skrl.config.torch, "_rank", 1)
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    assert vars(training.agent) == before
    assert logger.config == []
    handle.detach()
    assert not handle.attached


def with_infos(training: Training, infos: Callable[[int], Mapping[str, Any]]) -> None:
    """Has the environment hand out more, by the number of the step, from 0."""
    step = training.env.step
    calls = itertools.count()

    def stepping(actions: Any) -> Any:
        *result, own = step(actions)
        return (*result, {**own, **infos(next(calls))})

    training.env.step = stepping


def logged(training: Training, steps: int, **options: Any) -> dict[str, dict[int, float]]:
    logger = FakeLogger(**options)
    handle = attach(logger, training.agent)
    training.trainer(steps).train()
    handle.detach()
    assert logger.warnings == {}
    return logger.points()


def test_an_environments_own_figures(tmp_path: Path) -> None:
    """As Isaac Lab hands them out: numbers that skrl drops, in a mapping that stays until the next reset."""
    training = Training("PPO", tmp_path)
    logs = [{"Episode_Termination/time_out": 3}, {"Episode_Termination/time_out": 5, "done": True}]
    with_infos(training, lambda step: {"log": logs[step >= 10]})
    points = logged(training, 40)
    assert points["Episode_Termination/time_out"] == {80: 4.0}
    assert points["Info/done"] == {80: 1.0}


@pytest.mark.parametrize("tracked", [True, False])
def test_tensors_in_infos_are_logged_once_whether_the_trainer_tracks_them_or_not(tracked: bool, tmp_path: Path) -> None:
    training = Training("PPO", tmp_path)
    log = {
        "Episode_Reward/lift": torch.tensor(2.0),
        "Episode_Reward/each": torch.tensor([1.0, 3.0]),
        "Episode_Termination/fell": np.int64(3),
        "Metrics/success_rate": torch.tensor([0.25]),
    }
    with_infos(training, lambda step: {"log": dict(log)})
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    trainer = training.trainer(40)
    if tracked and IS_1X:
        trainer.environment_info = "log"
    elif tracked:
        trainer.cfg.environment_info = "log"
    trainer.train()
    written = training.scalars()
    handle.detach()
    points = logger.points()
    tag = "Info / Episode_Reward/lift" if IS_1X else "Episode_Reward/lift"
    assert (tag in written) is tracked
    # One name in both versions.
    assert points["Episode_Reward/lift"] == {80: 2.0, 160: 2.0}
    assert points["Episode_Termination/fell"] == {80: 3.0, 160: 3.0}
    assert points["Episode_Reward/each/mean"] == {80: 2.0, 160: 2.0}
    assert points["Episode_Reward/each/max"] == {80: 3.0, 160: 3.0}
    assert points["success_rate"] == {80: 0.25, 160: 0.25}
    assert logger.warnings == {}


def test_figures_that_change_in_place_count_when_they_do(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path)
    log = {"count": 0}

    def infos(step: int) -> dict[str, Any]:
        log["count"] = step // 10
        return {"log": log, "episode": {"r": 1.0, "l": 2, "t": 0.1, "name": "text"}}

    with_infos(training, infos)
    points = logged(training, 40)
    assert points["Info/count"] == {80: 0.5, 160: 2.5}
    assert not [name for name in points if name.startswith(("Info/r", "Info/l", "Info/name"))]


def test_of_a_vector_environments_figures_those_of_the_ended_episodes_count(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path, num_envs=4)

    def infos(step: int) -> dict[str, Any]:
        ended = np.array([False, True, False, True])
        return {"episode": {"distance": np.array([0.0, step, 0.0, step + 1]), "_distance": ended}, "_episode": ended}

    with_infos(training, infos)
    points = logged(training, 20)
    assert points["Info/distance/min"] == {80: 0.0}
    assert points["Info/distance/max"] == {80: 20.0}
    assert points["Info/distance/mean"] == {80: 10.0}


# The environments of skrl 1.4.3 reset themselves in the same step, and hand out the episodes' own infos as a list.
@pytest.mark.parametrize("form", ["final_dict", "final_list", *([] if IS_1X else ["own"])])
def test_the_success_rate_is_the_finished_episodes(form: str, tmp_path: Path) -> None:
    training = Training("PPO", tmp_path, num_envs=3, max_episode_steps=15)
    first, every = np.array([True, False, False]), np.ones(3, dtype=bool)
    forms = {
        "own": {"is_success": first, "_is_success": every},
        "final_dict": {"is_success": ~first, "final_info": {"is_success": first, "_is_success": every}},
        "final_list": {"final_info": [{"success": value} for value in first]},
    }
    with_infos(training, lambda step: forms[form])
    points = logged(training, 60)
    ended = [index == 0 for _, _, index in training.finished]
    assert points["success_rate"][180] == pytest.approx(np.mean(ended))


@pytest.mark.parametrize("interval", ["framework", "step", "balanced", 7, "rollout"])
def test_each_episode_is_told_of(interval: str | int, tmp_path: Path) -> None:
    training = Training("PPO", tmp_path, num_envs=3, max_episode_steps=15)
    counted: list[int] = []
    step = training.env.step

    def stepping(actions: Any) -> Any:
        result = step(actions)
        counted.append(len(training.finished))
        return result

    training.env.step = stepping
    points = logged(training, 60, interval=interval)
    ends = {"balanced": 10, 7: 7, "rollout": 16}.get(interval, 1)
    expected_rewards, expected_lengths = {}, {}
    begin = 0
    for end in sorted({*range(ends, 61, ends), 60}):
        finished = training.finished[begin : counted[end - 1]]
        begin = counted[end - 1]
        if finished:
            expected_rewards[end * 3] = pytest.approx(np.mean([it[0] for it in finished]))
            expected_lengths[end * 3] = pytest.approx(np.mean([it[1] for it in finished]))
    assert points["episode_reward"] == expected_rewards
    assert points["episode_length"] == expected_lengths
    if interval == "step":  # nothing is repeated in a step in which no episode ended
        assert list(points["episode_reward_std"]) == list(expected_rewards)
    last = max(points["episode_reward_std"])
    assert last == 180 or interval == "step"
    assert points["episode_reward_std"][last] == pytest.approx(np.std([it[0] for it in training.finished[-100:]]))


@pytest.mark.parametrize(
    ("interval", "emissions"), [("framework", 6), ("step", 100), ("balanced", 10), ("rollout", 7), (30, 4)]
)
def test_the_interval_words_by_count(interval: str | int, emissions: int, tmp_path: Path) -> None:
    """100 steps, written by skrl every 18, updated every 16; the last emission is what was left."""
    training = Training("PPO", tmp_path, num_envs=2, write_interval=18)
    points = logged(training, 100, interval=interval)
    every = {"framework": 18, "step": 1, "balanced": 10, "rollout": 16, 30: 30}[interval]
    assert set(points["mean_rewards"]) == {2 * min(start + every, 100) for start in range(0, 100, every)}
    assert len(points["timesteps"]) == emissions


def test_a_distributed_training_counts_all_its_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one process here: what the first of three would log, whose figures are those of its environments."""
    import skrl

    training = Training("PPO", tmp_path, num_envs=4)
    logger = FakeLogger()
    monkeypatch.setattr(skrl.config.torch, "_world_size", 3)
    with monkeypatch.context() as distributed:
        distributed.setattr(skrl.config.torch, "_is_distributed", True)
        handle = attach(logger, training.agent)
    training.trainer(40).train()
    handle.detach()
    points = logger.points()
    assert set(points["mean_rewards"]) == {20 * 4 * 3, 40 * 4 * 3}
    assert points["timesteps"][480] == 480
    assert logger.merged_config()["num_envs"] == 4


def test_agents_beside_each_other_share_a_logger(tmp_path: Path) -> None:
    first, second = (Training("DQN", tmp_path / name, num_envs=2) for name in ("first", "second"))
    logger = FakeLogger()
    one = attach(logger, first.agent)
    two = attach(logger, second.agent)
    assert "agent_1/" in logger.warnings["skrl/beside"]
    second.trainer(40).train()
    assert logger.read_clock is not None
    assert logger.read_clock() == 80
    first.trainer(20).train()
    assert logger.read_clock() == 40
    one.detach()
    # The clock is still the other's.
    assert logger.read_clock is not None
    assert logger.read_clock() == 80
    two.detach()
    assert logger.read_clock is None
    points = logger.points()
    assert points["timesteps"] == {40: 40}
    assert points["agent_1/timesteps"] == {40: 40, 80: 80}
    assert points["agent_1/q_loss"].keys() == {40, 80}
    assert logger.merged_config()["algo"]["agent_1"]["class"] == "DQN"


def test_a_prefix_of_ones_own(tmp_path: Path) -> None:
    training = Training("PPO", tmp_path, num_envs=2, checkpoint_interval=20)
    logger = FakeLogger()
    handle = attach(logger, training.agent, prefix="hider")
    training.trainer(20).train()
    training.trainer(20).eval()
    handle.detach()
    points = logger.points()
    assert points["hider/policy_loss"].keys() == {40}
    assert points["eval/hider/mean_rewards"].keys() == {40}
    assert all(name.removeprefix("eval/").startswith("hider/") for name in points)
    assert {model["name"] for model in logger.models} == {"hider_agent", "hider_best_agent"}
    assert logger.warnings == {}


class OwnAgent:
    """A user's agent that has little in common with skrl's."""

    def __init__(self) -> None:
        self.tracking_data: dict[str, Any] = {}

    def update(self, *, timestep: int, timesteps: int) -> str:
        self.tracking_data = {"loss": [float(timestep)], "rate": 0.5, "Values": [np.arange(3.0)]}
        return "updated"


def test_an_agent_of_ones_own() -> None:
    agent = OwnAgent()
    logger = FakeLogger()
    handle = attach(logger, agent, num_envs=2)
    results = [agent.update(timestep=timestep, timesteps=3) for timestep in range(3)]
    handle.detach()
    points = logger.points()
    assert results == ["updated"] * 3
    assert points["loss"] == {2: 0.0, 4: 1.0, 6: 2.0}
    assert points["rate"] == {2: 0.5, 4: 0.5, 6: 0.5}
    assert logger.warnings == {}


def test_losses_mean_what_their_names_say_whatever_their_part_in_the_total(tmp_path: Path) -> None:
    # The first update of two trainings that differ in nothing but the losses' weights, which act after it.
    first = {}
    for scale in (1.0, 4.0):
        options = {"value_loss_scale": scale, "learning_epochs": 1, "mini_batches": 1}
        training = Training("PPO", tmp_path / str(scale), num_envs=2, write_interval=20, options=options)
        logger = FakeLogger()
        attach(logger, training.agent)
        training.trainer(40).train()
        logger.finish()
        written = training.scalars()["Loss / Value loss"]
        first[scale] = (min(written.items()), min(logger.points()["value_loss"].items()))
    (native, canonical), (native_of_4, canonical_of_4) = first[1.0], first[4.0]
    assert native_of_4[1] == pytest.approx(4 * native[1], rel=1e-3)
    assert canonical_of_4[1] == pytest.approx(canonical[1], rel=1e-3)
    assert canonical[1] == pytest.approx(native[1], rel=1e-5)


def test_clean_names() -> None:
    assert clean("Reward / Total reward (mean)") == "Reward/Total reward/mean"
    assert clean("Episode_Reward/lift") == "Episode_Reward/lift"
    agent = SimpleNamespace(possible_agents=["left", "right"], cfg=SimpleNamespace(entropy_loss_scale={"left": 0.5}))
    table = name_table(agent)
    assert table.lookup("Loss / Policy loss (left)").canonical == "policy_loss/left"
    assert table.lookup("Loss / Entropy loss (left)").canonical == "entropy/left"
    assert table.lookup("Loss / Entropy loss (left)").scale == -2.0
    assert table.lookup("Loss / Entropy loss (right)").canonical == "Loss/Entropy loss/right"
