"""Each checkpoint that a trial has reported is in its run, whatever the scheduler then does with the trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray.train
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from rl_logging.adapters.ray_tune import ExperimentLoggerCallback
from rl_logging.records import Model
from tests.support.ray_tune import TUNES, Checkpoint, Saved, Storage, Trial, make, records


def report(callback: ExperimentLoggerCallback, trial: Trial, steps: int, weights: str | None) -> dict[str, Any]:
    """Reports as a trial's function does: what it has given lies in the trial's folder before Tune has the result."""
    result = {**TUNES, "timesteps_total": steps, "should_checkpoint": weights is not None, "checkpoint_dir_name": None}
    if weights is not None:
        result["checkpoint_dir_name"] = "checkpoint_000003"
        folder = trial.storage.storage_filesystem
        folder.create_dir(f"{trial.path}/checkpoint_000003")
        with folder.open_output_stream(f"{trial.path}/checkpoint_000003/weights") as file:
            file.write(weights.encode())
    callback.log_trial_result(1, trial, result)
    return result


def put_elsewhere(trial: Trial, root: Path) -> None:
    root.mkdir()
    trial.path, trial.storage = "bucket/a", Storage(SubTreeFileSystem(str(root), LocalFileSystem()))


def weights_of(tmp_path: Path, name: str) -> list[tuple[int | None, str]]:
    (run_dir,) = (tmp_path / "runs").glob(f"{name}-*")
    models = records(tmp_path, name, Model)
    return [(it.step, next((run_dir / it.path).rglob("weights")).read_text()) for it in models]


def test_a_checkpoint_is_there_whatever_becomes_of_its_trial(tmp_path: Path) -> None:
    callback = make(tmp_path)
    one, other = Trial("a", {"lr": 1}, tmp_path / "a"), Trial("b", {"lr": 2}, tmp_path / "b")
    result = report(callback, one, 400, "put aside")  # of which Tune takes no note: the next goes to the same folder
    winners = report(callback, other, 300, "winner's")
    winners_own = Checkpoint(f"{other.path}/checkpoint_000003")
    one.latest_checkpoint_result = Saved(winners_own, winners)
    report(callback, one, 400, "from the winner's")
    one.latest_checkpoint_result = Saved(Checkpoint(f"{one.path}/checkpoint_000003"), result)
    callback.log_trial_save(one)
    one.latest_checkpoint_result = Saved(winners_own, winners)
    report(callback, one, 500, None)
    callback.log_trial_save(one)  # there is none, and the trial's latest is the winner's
    callback.on_experiment_end([one, other])
    assert weights_of(tmp_path, "train_a") == [(400, "put aside"), (400, "from the winner's")]
    assert weights_of(tmp_path, "train_b") == [(300, "winner's")]


def test_a_class_that_is_saved_twice_at_one_result_has_one_checkpoint_of_it(tmp_path: Path) -> None:
    callback, trial = make(tmp_path), Trial("a", {"lr": 1})
    for number, (steps, seconds) in enumerate([(200, 1.0), (200, 1.0), (400, 2.0), (200, 3.0)]):
        folder = tmp_path / f"checkpoint_{number:06d}"
        folder.mkdir()
        (folder / "weights").write_text(str(number))
        result = {**TUNES, "timesteps_total": steps, "time_total_s": seconds}
        trial.latest_checkpoint_result = Saved(Checkpoint(str(folder)), result)
        callback.log_trial_save(trial)
    callback.on_experiment_end([trial])
    assert weights_of(tmp_path, "train_a") == [(200, "0"), (400, "2"), (200, "3")]


def test_a_checkpoint_that_is_elsewhere_is_fetched(tmp_path: Path) -> None:
    callback, trial = make(tmp_path), Trial("a", {"lr": 1})
    put_elsewhere(trial, tmp_path / "elsewhere")
    report(callback, trial, 400, "elsewhere")
    callback.log_trial_end(trial)
    callback.on_experiment_end([trial])
    assert weights_of(tmp_path, "train_a") == [(400, "elsewhere")]


def test_a_checkpoint_that_is_written_over_while_it_is_fetched_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def to_directory(checkpoint: Any, folder: str) -> str:
        (tmp_path / "elsewhere" / checkpoint.path / "weights").write_text("of the next one")
        return copied(checkpoint, folder)

    copied: Any = ray.train.Checkpoint.to_directory
    monkeypatch.setattr(ray.train.Checkpoint, "to_directory", to_directory)
    callback, trial = make(tmp_path, quiet=False), Trial("a", {"lr": 1})
    put_elsewhere(trial, tmp_path / "elsewhere")
    report(callback, trial, 400, "its own")
    callback.log_trial_end(trial)
    callback.on_experiment_end([trial])
    assert weights_of(tmp_path, "train_a") == []
    assert "checkpoint_000003 was written over while it was copied" in caplog.text
