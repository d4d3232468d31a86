"""Distributed trainings: the first process logs, or each of them."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import pytest

from rl_logging import ExperimentLogger
from rl_logging.bundle import Bundle, Manifest, find
from rl_logging.settings import ranks


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


def all_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **keywords: object) -> list[Manifest]:
    """Logs as three ranks do, one after the other, the first one last; returns their manifests."""
    for rank in (1, 2, 0):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setattr(ranks, "_count", itertools.count(1))  # each rank is a process of its own
        log_one(tmp_path, ranks="all", **keywords)
    return sorted((Bundle(path).manifest for path in find(tmp_path / "runs")), key=lambda manifest: manifest.id)


def test_each_process_logs_a_run_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = all_ranks(tmp_path, monkeypatch, name="ppo", id="job")
    assert [(it.name, it.id, it.group, it.parent) for it in manifests] == [
        ("ppo-rank0", "job-rank0", "ppo", None),
        ("ppo-rank1", "job-rank1", "ppo", "job-rank0"),
        ("ppo-rank2", "job-rank2", "ppo", "job-rank0"),
    ]


@pytest.mark.parametrize(
    "environ",
    [
        {"TORCHELASTIC_RUN_ID": "run", "WORLD_SIZE": "3"},
        {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "3"},
        {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3"},
    ],
)
def test_they_find_the_first_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    first, *others = all_ranks(tmp_path, monkeypatch)
    assert first.id.endswith("-rank0")
    assert [it.parent for it in others] == [first.id] * 2
    assert {it.group for it in (first, *others)} == {first.id.removesuffix("-rank0")}


def test_a_second_run_and_a_second_start_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"TORCHELASTIC_RUN_ID": "run", "TORCHELASTIC_RESTART_COUNT": "0"}
    again = {**environ, "TORCHELASTIC_RESTART_COUNT": "1"}
    assert ranks.shared_id(environ, 1) == ranks.shared_id(dict(environ), 1)
    assert len({ranks.shared_id(environ, 1), ranks.shared_id(environ, 2), ranks.shared_id(again, 1)}) == 3
    assert ranks.shared_id({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, 1) is None, "nothing says which start it is"


def test_a_preempted_job_goes_on_in_the_same_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    first = all_ranks(tmp_path, monkeypatch, resume="auto")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert [it.id for it in all_ranks(tmp_path, monkeypatch, resume="auto")] == [it.id for it in first]
    assert first[1].parent == "slurm-7-rank0"


def test_below_a_parent_all_are_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = all_ranks(tmp_path, monkeypatch, name="ppo", id="job", parent="sweep")
    assert {(it.parent, it.group) for it in manifests} == {("sweep", "sweep")}
