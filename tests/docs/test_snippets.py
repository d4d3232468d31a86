"""What the documentation shows is run, loaded as settings, or looked up."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from rl_logging import plugins
from rl_logging.bundle import Bundle, find
from rl_logging.cli import main
from rl_logging.journal import JournalReader
from rl_logging.records import Metrics, Record, decode
from rl_logging.settings import load
from tests.docs.blocks import README, ROOT, Block, blocks

TIMEOUT_S = 300


class Shown(NamedTuple):
    """What running a named block must do.

    Attributes:
        records: Kinds and how many of each its journal holds, the environment's left out.
        delivery: What ``RL_LOGGING_DELIVERY`` says, so that most blocks start no process.
        shorter: Text to replace in the code, for a run that does not take long.
        says: What it prints, a regular expression.
    """

    records: dict[str, int]
    delivery: str | None = "offline"
    shorter: tuple[str, str] | None = None
    says: str = ""


SHOWN = {
    "readme-loop": Shown({"config": 1, "metrics": 20, "image": 1, "model": 1, "end": 1}, shorter=("1_000", "20")),
    "first-run": Shown({"config": 1, "metrics": 100, "end": 1}),
    "own-loop-metrics": Shown({"config": 1, "metrics": 2, "end": 1}),
    "own-loop-step": Shown({"metrics": 3, "end": 1}),
    "own-loop-converter": Shown({"metrics": 1, "end": 1}),
    "own-loop-verbs": Shown(
        {"config": 2, "image": 1, "video": 1, "artifact": 1, "model": 1, "labels": 2, "end": 1},
        says=r"models/best/step_1000 1000\n",
    ),
    "own-loop-looking": Shown(
        {"config": 1, "metrics": 1, "end": 1},
        delivery=None,
        says=r"True\n[0-9a-f]{32}\nsqlite:.*mlflow.db\nmlflow [23] 0 0 None\n",
    ),
    "sweeps-child": Shown({}),
    "own-loop-summary-writer": Shown({"config": 1, "artifact": 1, "metrics": 16, "end": 1}),
    "videos-recorder": Shown({"config": 2, "metrics": 11, "video": 2, "end": 1}),
    "videos-folder": Shown({"video": 1, "end": 1}),
    "curves-read": Shown({"config": 1, "metrics": 10, "end": 1}, says=r"90 1\.0\n(.|\n)*train/loss +0\.0109"),
    "curves-best": Shown({"config": 2, "metrics": 5, "end": 1}, says=r"-?0\.0\n"),
    "resume-step": Shown({"metrics": 100, "end": 1}),
    "resume-state-dict": Shown({"config": 2, "metrics": 2, "end": 2}, says=r"True 1000\n"),
    "hydra-train": Shown({"config": 1, "metrics": 1, "end": 1}),
    "sb3": Shown({}, shorter=("50_000", "512")),
    "sb3-callback": Shown({}, shorter=("50_000", "512")),
    "sb3-eval": Shown({}, shorter=("20_000", "2_048"), says=r"\d+\.\d+\n"),
    "sb3-load": Shown({}, shorter=("learn(5_000", "learn(1_000"), says=r"1000 \[.*\]\n"),
    "skrl-runner": Shown({}, shorter=("10_000", "120")),
    "testing-disabled": Shown({}, delivery=None),
    "testing-recording": Shown({}, delivery=None),
    "testing-memory-store": Shown({"metrics": 1, "end": 1}, delivery=None),
    "bundle-reader": Shown({}, delivery=None),
    "best-train": Shown({}),
    "best-top-run": Shown({}, says=r"0.001 at 2000\n"),
    "best-control": Shown({}, says=r"(lr-\S+ finished \S+ \d+.0\n){3}lr-0.001 90.0 2000 2000 \{.*\}\n0.001 at 2000\n"),
}
OWN_TESTS = {
    "best-control",
    "best-top-run",
    "best-train",
    "bundle-reader",
    "hydra-train",
    "readme-loop",
    "sb3",
    "sb3-callback",
    "sb3-eval",
    "sb3-load",
    "skrl-runner",
    "sweeps-child",
}
PYTHON = blocks("python")
NAMED = {block.name: block for block in PYTHON if block.name is not None}


def test_each_named_block_is_known_here():
    assert sorted(NAMED) == sorted(name for name in SHOWN)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_python_blocks_are_python(block: Block):
    ast.parse(block.code, filename=block.place)


@pytest.mark.parametrize("name", sorted(set(SHOWN) - OWN_TESTS))
def test_named_blocks_do_what_they_show(name: str, tmp_path: Path):
    shown = SHOWN[name]
    said = run(name, tmp_path)
    assert re.search(shown.says, said), said
    assert kinds(tmp_path) == shown.records


def test_the_readme_loop_logs_what_it_shows(tmp_path: Path):
    run("readme-loop", tmp_path)
    assert kinds(tmp_path) == SHOWN["readme-loop"].records
    points = [(record.step, sorted(record.values)) for record in journal(tmp_path) if isinstance(record, Metrics)]
    assert points == [(step, ["eval/reward", "train/loss"]) for step in range(20)]


def test_arrays_become_the_aggregates_that_are_shown(tmp_path: Path):
    run("own-loop-metrics", tmp_path)
    last = [record for record in journal(tmp_path) if isinstance(record, Metrics)][-1]
    assert sorted(last.values) == ["returns/max", "returns/mean", "returns/min", "returns/std"]


def test_a_converters_mapping_becomes_the_names_in_the_comment(tmp_path: Path):
    run("own-loop-converter", tmp_path)
    last = [record for record in journal(tmp_path) if isinstance(record, Metrics)][-1]
    assert last.values == {"reward/progress": 1.5, "reward/penalty": -0.25}


def test_steps_are_those_in_the_comments(tmp_path: Path):
    run("own-loop-step", tmp_path)
    assert [record.step for record in journal(tmp_path) if isinstance(record, Metrics)] == [4096, 4096, 4097]


def test_a_sweep_without_ray_is_three_runs(tmp_path: Path):
    run("sweeps-child", tmp_path)
    found = {(it := Bundle(path).manifest).name: it for path in find(tmp_path / "rl_runs")}
    assert {name: it.parent for name, it in found.items()} == {
        "sweep": None,
        "lr=0.001": found["sweep"].id,
        "lr=0.0001": found["sweep"].id,
    }


def test_hydra_runs_the_program_with_the_file_that_is_shown(tmp_path: Path):
    pytest.importorskip("hydra")
    shown = next(block for block in blocks("yaml") if "# conf/config.yaml" in block.code)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text(shown.code, encoding="utf-8")
    run("hydra-train", tmp_path)
    (found,) = tmp_path.glob("outputs/*/*/CartPole-v1-*/run.json")
    assert Counter(record.kind for record in records_of(found.parent)) == {
        **SHOWN["hydra-train"].records,
        "environment": 1,
    }


def test_skrl_logs_as_shown(tmp_path: Path):
    run("skrl-runner", tmp_path)
    metrics = [record for record in journal(tmp_path) if isinstance(record, Metrics)]
    steps = {metric: [it.step for it in metrics if metric in it.values] for metric in ("policy_loss", "timesteps")}
    # SKRL writes every 50 of its steps, and drops the rest; it updates every 32.
    assert steps == {"policy_loss": [200, 400], "timesteps": [200, 400, 480]}


@pytest.mark.parametrize("name", ["sb3", "sb3-callback"])
def test_stable_baselines3_logs_as_shown(name: str, tmp_path: Path):
    run(name, tmp_path)
    records = journal(tmp_path)
    points = {metric: record.step for record in records if isinstance(record, Metrics) for metric in record.values}
    assert {"policy_loss", "episode_reward_mean", "timesteps"} <= set(points)
    assert points["timesteps"] == 512
    if name == "sb3-callback":
        assert points["my/bonus"] == 512
    else:
        assert [record.step for record in records if record.kind == "model"] == [512]


def test_stable_baselines3_evaluates_and_saves_as_shown(tmp_path: Path):
    said = run("sb3-eval", tmp_path)
    assert re.fullmatch(SHOWN["sb3-eval"].says, said), said
    records = journal(tmp_path)
    assert [record.step for record in records if record.kind == "model"] == [2_000, 2_048]
    scores = [
        record for record in records if isinstance(record, Metrics) and "eval/episode_reward_mean" in record.values
    ]
    assert [(score.step, score.values["eval/episode_reward_mean"]) for score in scores] == [(2_000, float(said))]


def test_a_model_is_loaded_again_as_shown(tmp_path: Path):
    said = run("sb3-load", tmp_path)
    assert re.fullmatch(SHOWN["sb3-load"].says, said), said


def test_the_reader_that_is_shown_reads_a_journal(tmp_path: Path):
    run("own-loop-verbs", tmp_path)
    said = run("bundle-reader", tmp_path, str(run_dir(tmp_path)))
    lines = said.splitlines()
    records = journal(tmp_path)
    assert [tuple(line.split()[:3]) for line in lines] == [
        (str(record.seq), str(record.step), record.kind) for record in records
    ]


def test_the_best_checkpoint_comes_home_as_shown(tmp_path: Path):
    run("best-train", tmp_path)
    for name in ("best-top-run", "best-control"):
        said = run(name, tmp_path)
        assert re.fullmatch(SHOWN[name].says, said), said


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.place)
def test_yaml_blocks_are_settings(block: Block, tmp_path: Path):
    pytest.importorskip("omegaconf")
    from omegaconf import OmegaConf

    file = tmp_path / "config.yaml"
    file.write_text(block.code, encoding="utf-8")
    config = OmegaConf.load(file)
    if "${" in block.code:  # Hydra is not there to say where it writes
        OmegaConf.register_new_resolver("hydra", lambda key: f"/hydra/{key}", replace=True)
    loaded = load(config, {})
    assert not loaded.notices
    for sink in loaded.sinks:
        if sink.name not in ("mlflow", "wandb"):
            continue  # a reader's own, which has a test where it is written
        assert plugins.load(sink.name, sink.factory).check_options(sink.options) == []


def test_shell_blocks_name_what_there_is():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    seen = Counter()
    for block in blocks("shell"):
        for line in block.code.splitlines():
            words = shlex.split(line, comments=True)
            for index, word in enumerate(words):
                if word == "make":
                    seen["make"] += 1
                    assert words[index + 1] in targets, block.place
                elif word == "rl-logging":
                    seen["rl-logging"] += 1
                    command = main.commands[words[index + 1]]
                    options = {option for parameter in command.params for option in parameter.opts}
                    assert {option for option in words[index + 2 :] if option.startswith("--")} <= options, block.place
                elif word == "-m" and words[index + 1].startswith(("rl_logging", "tests")):
                    module = ROOT.joinpath(*words[index + 1].split("."))
                    assert module.is_dir() or module.with_suffix(".py").is_file(), block.place
    assert seen["make"]
    assert seen["rl-logging"]


def test_the_readme_has_both_commands_on_its_first_screen():
    screen = README.read_text(encoding="utf-8").splitlines()[:40]
    assert any(line.strip().startswith("make demo") for line in screen)
    assert any(line.strip().startswith("make test") for line in screen)


def run(name: str, folder: Path, *arguments: str) -> str:
    """Runs a named block as a program in `folder`; returns what it printed."""
    shown, code = SHOWN[name], NAMED[name].code
    if shown.shorter is not None:
        assert shown.shorter[0] in code
        code = code.replace(*shown.shorter)
    program = folder / f"{name}.py"
    program.write_text(code, encoding="utf-8")
    environ = dict(os.environ)
    if shown.delivery is not None:
        environ["RL_LOGGING_DELIVERY"] = shown.delivery
    done = subprocess.run(
        [sys.executable, program.name, *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "not logged" not in done.stderr, done.stderr
    return done.stdout


def run_dir(folder: Path) -> Path:
    (found,) = [path for path in (folder / "rl_runs").iterdir() if path.is_dir()]
    return found


def kinds(folder: Path) -> dict[str, int]:
    return dict(Counter(record.kind for record in journal(folder) if record.kind != "environment"))


def journal(folder: Path) -> list[Record]:
    """Returns the records of the one run that was made in `folder`; none where none was made."""
    return records_of(run_dir(folder)) if (folder / "rl_runs").is_dir() else []


def records_of(run_dir: Path) -> list[Record]:
    return [decode(envelope) for envelope in JournalReader(run_dir / "journal").read(10_000, final=True)]
