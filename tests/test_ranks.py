"""Distributed trainings: the first process logs, or each of them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from rl_logging import ExperimentLogger
from rl_logging.bundle import Bundle, find


def log_one(tmp_path: Path, **keywords: object) -> None:
    config = {"rl_logging": keywords}
    with ExperimentLogger(config, dir=tmp_path / "runs", delivery="offline", sinks=[], quiet=True) as logger:
        logger.log_metrics({"x": 1.0}, step=1)
        logger.save_model(__file__, name="model")


@pytest.mark.parametrize(
    ("environ", "logs"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "8", "LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "1"}, False),
        ({"OMPI_COMM_WORLD_RANK": "1"}, False),
        ({"SLURM_PROCID": "1"}, True),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, False),
        ({"RANK": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, True),
        ({"RANK": ""}, True),
    ],
)
def test_the_first_process_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], logs: bool
) -> None:
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    log_one(tmp_path)
    assert len(list(find(tmp_path / "runs"))) == logs


def test_what_may_be_a_misunderstanding_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    log_one(tmp_path)
    (told,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "rank 3 (SLURM_PROCID)" in told.getMessage()


def test_each_process_logs_a_run_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        log_one(tmp_path, ranks="all", name="ppo", id="job")
    manifests = [Bundle(path).manifest for path in find(tmp_path / "runs")]
    assert [(it.name, it.id, it.group) for it in manifests] == [
        (f"ppo-rank{rank}", f"job-rank{rank}", "ppo") for rank in range(3)
    ]
