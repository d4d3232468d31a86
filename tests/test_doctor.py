"""The doctor: what it finds good, and what it finds wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.test_cli import cli


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def line(text: str, about: str) -> str:
    return next(line for line in text.splitlines() if line[2:].split(": ")[0].endswith(about))


def test_all_is_well(tmp_path: Path) -> None:
    file = config(tmp_path, "mlflow: {tracking_uri: 'sqlite:///m.db'}\nwandb: {mode: offline, dir: .}\n")
    done = cli("doctor", file)
    assert done.exit_code == 0, done.output
    assert "✓" in line(done.stdout, "stable-baselines3")
    assert f"✓ mlflow: goes to sqlite:///{tmp_path}/m.db experiment Default" in done.stdout
    assert "can be written" in line(done.stdout, "run directories")
    assert not (tmp_path / "m.db").exists()
    assert list(tmp_path.glob(".rl-logging*")) == []


def test_a_run_is_sent_when_asked_for(tmp_path: Path) -> None:
    file = config(tmp_path, "mlflow: {tracking_uri: 'sqlite:///m.db'}\n")
    done = cli("doctor", "--try", file)
    assert done.exit_code == 0, done.output
    assert "took a run called rl-logging-doctor" in done.stdout
    (run,) = MlflowClient(f"sqlite:///{tmp_path}/m.db").search_runs(["0"])
    assert run.info.run_name == "rl-logging-doctor"
    assert "doctor/took_s" in run.data.metrics


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rl_logging: {delivry: thread}", "rl_logging.delivry: there is no such setting (did you mean 'delivery'?)"),
        ("mlflow: {tracking_url: x}", "mlflow.tracking_url"),
        ("wanbd: {mode: offline}", "did you mean 'wandb'?"),
        ("mlflow: false", "none is configured"),
        ("rl_logging: {dir: /proc/nowhere}", "/proc/nowhere cannot be written"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, words: str) -> None:
    done = cli("doctor", config(tmp_path, text))
    assert done.exit_code == 1
    assert words in done.stdout


def test_a_store_that_is_down_is_named(tmp_path: Path) -> None:
    done = cli("doctor", "--try", "--timeout", 2, config(tmp_path, "mlflow: {tracking_uri: 'http://127.0.0.1:9'}"))
    assert done.exit_code == 1
    assert "did not take a run" in done.stdout
    assert "training goes on" not in done.output
