"""The doctor: what it finds good, and what it finds wrong."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.test_cli import cli

doctor = sys.modules["rl_logging.cli.doctor"]  # the package has the command under this name


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


def without(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = doctor.version

    def version(name: str) -> str:
        if name == package:
            raise PackageNotFoundError(name)
        return asked(name)

    monkeypatch.setattr(doctor, "version", version)


def test_adapters_are_ready_where_their_packages_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = config(tmp_path, "mlflow: {tracking_uri: 'sqlite:///m.db'}\n")
    done = cli("doctor", file)
    for adapter in ("stable_baselines3", "skrl", "ray_tune"):
        assert f"✓ adapter {adapter}: ready (rl_logging.adapters.{adapter})" in done.stdout
    assert "✓" in line(done.stdout, " ray")
    without("pyarrow", monkeypatch)
    done = cli("doctor", file)
    assert done.exit_code == 0, done.output
    assert "· adapter ray_tune: needs pyarrow: pip install 'rl-logging[ray]'" in done.stdout


def test_settings_that_need_a_package_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = config(tmp_path, "rl_logging: {system_metrics: true}\nmlflow: {tracking_uri: 'sqlite:///m.db'}\n")
    assert cli("doctor", file).exit_code == 0
    without("psutil", monkeypatch)
    done = cli("doctor", file)
    assert done.exit_code == 1
    assert "✗ system metrics: they need psutil: pip install 'rl-logging[system]'" in done.stdout


def test_what_a_sink_makes_of_its_options_is_told_in_its_place(tmp_path: Path) -> None:
    done = cli("doctor", config(tmp_path, "wandb: {dir: .}\n"))
    assert done.exit_code == 0, done.output
    assert "· wandb: no W&B key is configured" in done.stdout
    assert done.stderr == ""


def test_without_a_sink_there_is_none_to_try(tmp_path: Path) -> None:
    done = cli("doctor", "--try", config(tmp_path, "mlflow: false"))
    assert done.exit_code == 1
    assert "name one below rl_logging.sinks" in done.stdout
    assert "· sinks: there is none to try" in done.stdout


def test_a_run_is_sent_when_asked_for(tmp_path: Path, mlflow_uri: str) -> None:
    file = config(tmp_path, "mlflow: {tracking_uri: 'sqlite:///mlflow.db'}\n")
    done = cli("doctor", "--try", file)
    assert done.exit_code == 0, done.output
    assert "took a run called rl-logging-doctor" in done.stdout
    (run,) = MlflowClient(mlflow_uri).search_runs(["0"])
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


def test_a_store_that_still_writes_when_the_time_is_up_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmdir = os.rmdir

    def full(path: str, **options: int) -> None:
        if Path(path).name.startswith("rl-logging-doctor-"):
            raise OSError(errno.ENOTEMPTY, "Directory not empty", path)
        rmdir(path, **options)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "rmdir", full)
    done = cli("doctor", "--try", config(tmp_path, "mlflow: false"))
    assert isinstance(done.exception, SystemExit)
    assert "· sinks: there is none to try" in done.stdout
