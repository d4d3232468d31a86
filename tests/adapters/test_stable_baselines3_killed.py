"""A training that is killed, or interrupted in the middle of a record: what the journal has of it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from rl_logging.journal.writer import JournalWriter
from rl_logging.reading import read_metrics
from rl_logging.records import End
from tests.support.sb3_callbacks import open_run, points, ppo, records

INTERVALS = ["framework", "step"]
WITHIN_S = 120


class Noting(BaseCallback):
    """Records how often it was called, and notes the calls in which an episode has ended."""

    def __init__(self, then: Callable[[Noting], None]) -> None:
        super().__init__()
        self.then = then
        self.ended: list[int] = []

    def _on_step(self) -> bool:
        self.logger.record("mine/calls", self.n_calls)
        if any("episode" in info for info in self.locals["infos"]):
            self.ended.append(self.num_timesteps)
        self.then(self)
        return True


def train_until_killed(folder: Path, interval: str) -> None:
    torch.set_num_threads(1)  # the threads of others are not in a forked process

    def kill(noting: Noting) -> None:
        if noting.n_calls > 40 and noting.ended[-1:] == [noting.num_timesteps]:
            (folder / "noted.json").write_text(json.dumps([noting.n_calls, noting.ended]))
            os.kill(os.getpid(), signal.SIGKILL)

    logger = open_run(folder, {"rl_logging": {"interval": interval}}, id="killed")
    ppo(n_steps=256).learn(2_000, callback=[*logger.get_callbacks(), Noting(kill)])


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("interval", INTERVALS)
def test_all_of_the_steps_before_a_kill_is_in_the_journal(interval: str, tmp_path: Path) -> None:
    training = multiprocessing.get_context("fork").Process(target=train_until_killed, args=(tmp_path, interval))
    training.start()
    training.join(WITHIN_S)
    assert training.exitcode == -signal.SIGKILL
    calls, ended = json.loads((tmp_path / "noted.json").read_text())
    logged = read_metrics(tmp_path / "runs")
    if interval == "framework":  # the episode of the very step
        assert list(logged["episode_reward"].step) == ended
    else:  # the steps that were complete
        assert list(logged["episode_reward"].step) == ended[:-1]
        assert list(logged["mine/calls"].step) == list(range(2, 2 * calls, 2))
        assert list(logged["mine/calls"].value) == list(range(1, calls))


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Has SIGINT raise KeyboardInterrupt, as in a program of one's own: a worker of pytest's ignores it."""
    found = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, found)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("written", [False, True])
def test_ctrl_c_in_the_middle_of_a_record_neither_loses_nor_doubles_it(
    interval: str, written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts = [False]
    write = JournalWriter._write

    def interrupted(journal: JournalWriter, data: bytes, seq: int) -> str | None:
        if not interrupts[0]:
            return write(journal, data, seq)
        interrupts[0] = False
        problem = write(journal, data, seq) if written else None
        signal.raise_signal(signal.SIGINT)
        return problem

    def interrupt(noting: Noting) -> None:
        if noting.n_calls == 40:
            interrupts[0] = True

    monkeypatch.setattr(JournalWriter, "_write", interrupted)
    noting = Noting(interrupt)
    with (
        pytest.raises(KeyboardInterrupt),
        open_run(tmp_path, {"rl_logging": {"interval": interval}}) as logger,
    ):
        ppo(n_steps=256).learn(2_000, callback=[noting, *logger.get_callbacks()])
    *_, last = records(logger)
    assert isinstance(last, End)
    assert last.status == "killed"
    assert noting.n_calls > 40
    assert [step for step, _ in points(logger, "episode_reward")] == noting.ended
    if interval == "step":
        assert points(logger, "mine/calls") == [(2 * call, float(call)) for call in range(1, noting.n_calls)]
