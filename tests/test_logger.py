from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_logging import ExperimentLogger, SettingsError
from rl_logging.bundle import Bundle
from rl_logging.journal import JournalReader
from rl_logging.records import Artifact, Config, Environment, Image, Labels, Metrics, Model, Record, Video, decode
from rl_logging.run import JournaledRun
from rl_logging.run.look_around import LookAround
from rl_logging.sinks import RejectedError
from rl_logging.testing.files import FileStore
from rl_logging.testing.memory import MemoryStore


@pytest.fixture
def logger(store: MemoryStore, tmp_path: Path) -> Iterator[ExperimentLogger]:
    made = ExperimentLogger(sinks={"memory": store.make}, dir=tmp_path / "runs", name="a run", quiet=True)
    yield made
    made.finish()


def delivered(logger: ExperimentLogger, store: MemoryStore, kind: type[Record]) -> list[Any]:
    logger.finish()
    return [record for record in store.run().records.values() if type(record) is kind]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_metrics_are_flattened_and_arrive_with_their_step(logger: ExperimentLogger, store: MemoryStore) -> None:
    logger.log_metrics({"train/loss": 0.5, "eval": {"reward": np.float32(150)}, "none": None}, step=1000)
    logger.log_metrics({"g": np.arange(4)}, step=np.int64(1001))
    rows = delivered(logger, store, Metrics)
    assert [(row.step, row.values) for row in rows] == [
        (1000, {"train/loss": 0.5, "eval/reward": 150.0}),
        (1001, {"g/mean": 1.5, "g/std": float(np.std(np.arange(4))), "g/min": 0.0, "g/max": 3.0}),
    ]


def test_step_less_calls_count_up_from_the_highest_step(logger: ExperimentLogger, store: MemoryStore) -> None:
    assert logger.step == 0
    for step in (None, None, 10, None, 5, None):
        logger.log_metrics({"a": 1}, step=step)
    assert logger.step == 12
    logger.step = 100
    logger.log_metrics({"a": 1})
    logger.log_metrics({"a": 1})
    logger.step = None  # type: ignore[assignment]
    logger.log_metrics({"a": 1})
    assert [row.step for row in delivered(logger, store, Metrics)] == [0, 1, 10, 11, 5, 12, 100, 100, 101]


def test_an_adapters_clock_stamps_step_less_calls(logger: ExperimentLogger, store: MemoryStore) -> None:
    clock = 64
    logger.set_clock(lambda: clock)
    logger.log_metrics({"a": 1})
    clock = 128
    assert logger.step == 128
    logger.log_metrics({"a": 1})
    logger.log_metrics({"a": 1}, step=3)
    assert [row.step for row in delivered(logger, store, Metrics)] == [64, 128, 3]


@pytest.mark.parametrize("step", ["five", 1.5, 2**63, object(), float("nan")])
def test_a_step_that_is_none_is_told_once_and_the_metric_kept(
    logger: ExperimentLogger, store: MemoryStore, caplog: pytest.LogCaptureFixture, step: Any
) -> None:
    logger.log_metrics({"a": 1}, step=step)
    logger.log_metrics({"a": 2}, step=step)
    assert sum("step: got" in text for text in warnings(caplog)) == 1
    assert [(row.step, row.values) for row in delivered(logger, store, Metrics)] == [(0, {"a": 1.0}), (1, {"a": 2.0})]


def test_what_cannot_be_logged_is_told_once_and_the_rest_logged(
    logger: ExperimentLogger, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        logger.log_metrics({"good": 1.0, "bad": "text", "worse": object()}, step=1)
    logger.log_metrics("no mapping")  # type: ignore[arg-type]
    told = warnings(caplog)
    assert sum("'bad': a str" in text for text in told) == 1
    assert sum("'worse'" in text for text in told) == 1
    assert any("log_metrics: a str is not a mapping" in text for text in told)
    assert [row.values for row in delivered(logger, store, Metrics)] == [{"good": 1.0}] * 3


def test_the_metric_filter_holds_for_everything(store: MemoryStore, tmp_path: Path, caplog: Any) -> None:
    config = {"rl_logging": {"metric_filter": ["g", "!eval/*", "never"], "quiet": True, "dir": str(tmp_path)}}
    with ExperimentLogger(config, sinks={"memory": store.make}) as logger:
        logger.log_metrics({"g": [1, 2], "eval/g": 3, "h": 4}, step=1)
        logger.log_metrics({"h": 4})
    rows = [record for record in store.run().records.values() if isinstance(record, Metrics)]
    assert [set(row.values) for row in rows] == [{"g/mean", "g/std", "g/min", "g/max"}]
    assert any("nothing was called 'never'" in text for text in warnings(caplog))


def test_the_whole_configuration_is_logged_first_and_later_parts_add_to_it(store: MemoryStore, tmp_path: Path) -> None:
    import gymnasium as gym

    config = {"lr": 0.1, "env": {"id": "mine"}, "wandb_api_key": "hunter2", "rl_logging": {"quiet": True}}
    env = gym.make("CartPole-v1")
    with ExperimentLogger(config, env, sinks={"memory": store.make}, dir=tmp_path) as logger:
        logger.log_config({"custom": {"param1": 1}})
        logger.add_config_defaults({"lr": 5, "num_envs": 7, "algo": {"gamma": 0.9}})
        assert logger.num_envs == 1
    merged = store.run().config
    assert merged["lr"] == 0.1
    assert merged["custom"] == {"param1": 1}
    assert merged["algo"] == {"gamma": 0.9}
    assert (merged["env"]["id"], merged["env"]["num_envs"], merged["num_envs"]) == ("mine", 1, 1)
    assert "hunter2" not in str(merged)
    first = store.run().records[1]
    assert isinstance(first, Config)


def test_media_models_and_artifacts_become_records_with_files(
    logger: ExperimentLogger, store: MemoryStore, tmp_path: Path
) -> None:
    (tmp_path / "value.pdf").write_bytes(b"pdf")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_bytes(b"w")
    logger.log_image("state/left", np.zeros((4, 6, 3), np.uint8), step=7, caption="start")
    logger.log_video("episode", np.zeros((3, 4, 6, 3), np.uint8), step=8, fps=15)
    logger.log_artifact(tmp_path / "value.pdf", name="value", type="plot")
    saved = logger.save_model(tmp_path / "weights", "best/model", {"reward": np.float32(2)}, step=9, aliases=("best",))
    again = logger.save_model(tmp_path / "weights", "best/model", step=9)
    assert saved is not None
    assert again is not None
    assert (saved.step, saved.metadata, saved.aliases) == (9, {"reward": 2.0}, ("best",))
    assert saved.path != again.path
    assert (saved.path / "metadata.json").is_file()
    (image,) = delivered(logger, store, Image)
    (video,) = delivered(logger, store, Video)
    (artifact,) = delivered(logger, store, Artifact)
    models = delivered(logger, store, Model)
    assert (image.name, image.step, image.caption) == ("state/left", 7, "start")
    assert (video.name, video.step, video.fps) == ("episode", 8, 15.0)
    assert (artifact.name, artifact.type) == ("value", "plot")
    assert (logger.run_dir / artifact.path).read_bytes() == b"pdf"
    assert [logger.run_dir / model.path for model in models] == [saved.path, again.path]
    for record in (image, video, *models):
        assert (logger.run_dir / record.path).resolve().is_relative_to(logger.run_dir)


def test_what_a_verb_cannot_do_is_a_warning(logger: ExperimentLogger, caplog: pytest.LogCaptureFixture) -> None:
    logger.log_image("x", "no such file.png")
    logger.log_video("x", object())
    logger.log_artifact("no such file")
    logger.log_config(5)
    assert logger.save_model(object(), "x") is None
    logger.save_model("no such file")
    told = warnings(caplog)
    for verb in ("log_image 'x'", "log_video 'x'", "log_artifact 'no such file'", "log_config", "save_model 'x'"):
        assert any(text.startswith(verb) for text in told), verb


def test_labels_replace_tags_and_notes(logger: ExperimentLogger, store: MemoryStore) -> None:
    logger.set_tags("a", "b")
    logger.set_tags(["c"])
    logger.set_notes("hello")
    rows = delivered(logger, store, Labels)
    assert [(row.tags, row.notes) for row in rows] == [(("a", "b"), None), (("c",), None), (None, "hello")]


def test_the_environment_is_captured_once(logger: ExperimentLogger, store: MemoryStore) -> None:
    (record,) = delivered(logger, store, Environment)
    assert (logger.run_dir / record.path).is_file()


def test_every_verb_is_safe_from_several_threads(logger: ExperimentLogger, store: MemoryStore) -> None:
    def work(number: int) -> None:
        for index in range(200):
            logger.log_metrics({f"m{number}": index})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = delivered(logger, store, Metrics)
    assert sorted(row.step for row in rows) == list(range(800))
    for number in range(4):
        assert [row.values[f"m{number}"] for row in rows if f"m{number}" in row.values] == list(range(200))


def test_flush_waits_for_the_stores_and_is_bounded(logger: ExperimentLogger, store: MemoryStore) -> None:
    logger.log_metrics({"a": 1})
    assert logger.flush(60)
    assert len(store.run().points) == 1
    store.hold_writes()
    logger.log_metrics({"a": 2})
    assert not logger.flush(timeout=0.05)
    store.release_writes()
    assert logger.flush(60)


def test_status_tells_each_destination_apart(store: MemoryStore, tmp_path: Path) -> None:
    other = MemoryStore()
    other.reject(lambda record: record.step == 1, "odd")
    sinks = {"one": store.make, "two": other.make}
    with ExperimentLogger(sinks=sinks, dir=tmp_path, quiet=True) as logger:
        logger.log_metrics({"a": 1}, step=0)
        logger.log_metrics({"a": 1}, step=1)
        assert logger.run_id("one") == store.run().context.run_id
        assert logger.url("two", timeout=180) == f"memory://{logger.run_id('two')}"
        assert logger.run_id("three") is None
        assert logger.flush(60)
        status = logger.status()
        assert status["one"].rejected == 0
        assert status["two"].rejected == 1
        assert status["one"].confirmed >= 2
    status = logger.status()
    assert (status["one"].phase, status["one"].pending, status["one"].in_flight) == ("done", 0, 0)
    assert "<table>" in logger._repr_html_()


def test_a_sink_that_cannot_open_surfaces_as_one_warning(
    store: MemoryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.fail_open(100, RejectedError("no such entity"))
    with ExperimentLogger(sinks={"memory": store.make}, dir=tmp_path, quiet=True) as logger:
        for step in range(50):
            logger.log_metrics({"a": 1}, step=step)
        assert not logger.flush(timeout=0.1)
        assert logger.run_id("memory") is None
    assert sum("no such entity" in text for text in warnings(caplog)) == 1
    assert logger.status()["memory"].pending > 50


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "finished"),
        (ValueError, "failed"),
        (KeyboardInterrupt, "killed"),
        (SystemExit(3), "failed"),
        (SystemExit(0), "finished"),
    ],
)
def test_with_ends_the_run_with_the_status_that_is_true(
    store: MemoryStore, tmp_path: Path, error: Any, status: str
) -> None:
    with contextlib.suppress(BaseException), ExperimentLogger(sinks={"memory": store.make}, dir=tmp_path, quiet=True):
        if error is not None:
            raise error
    assert store.run().status == status


def test_finish_is_idempotent_and_what_follows_is_told_once(
    logger: ExperimentLogger, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    logger.finish("failed")
    logger.finish()
    logger.log_metrics({"a": 1})
    logger.log_image("x", np.zeros((2, 2), np.uint8))
    assert logger.save_model({}, "x") is None
    assert store.run().status == "failed"
    assert sum("nothing more is logged" in text for text in warnings(caplog)) == 1
    assert logger.flush(60)


def test_disabled_is_the_whole_api_without_a_file_or_a_child(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with ExperimentLogger(delivery="disabled", dir=tmp_path / "runs", name="x") as logger:
        logger.log_metrics({"a": 1})
        logger.log_metrics({"a": 1}, step=5)
        logger.log_config({"a": 1})
        logger.log_image("i", np.zeros((2, 2), np.uint8))
        logger.log_video("v", np.zeros((2, 2, 2, 3), np.uint8))
        logger.log_artifact("nothing")
        saved = logger.save_model({}, "m", step=3)
        assert saved is not None
        assert saved.step == 3
        assert logger.step == 7
        assert logger.status() == {}
        assert logger.flush(60)
        assert logger.run_id("mlflow") is None
        assert logger.run_dir == tmp_path / "runs" / "x"
    assert set(threading.enumerate()) <= before
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_offline_keeps_a_journal_and_starts_nobody(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with ExperimentLogger({"wandb": {"mode": "offline"}}, delivery="offline", dir=tmp_path / "runs") as logger:
        logger.log_metrics({"a": 1.0}, step=1)
        assert logger.run_id("wandb") is None
        assert not logger.flush(timeout=0)
    bundle = Bundle(logger.run_dir)
    kinds = [decode(envelope).kind for envelope in JournalReader(bundle.journal).read(100, final=True)]
    assert sorted(kinds) == ["config", "end", "environment", "metrics"]
    assert not bundle.delivery_log.exists()


def test_secrets_never_reach_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {
        "api_token": "hunter2",
        "rl_logging": {
            "quiet": True,
            "delivery": "offline",
            "dir": str(tmp_path / "runs"),
            "sinks": {
                "mine": {"factory": "json:loads", "webhook_token": "hunter2", "url": "https://me:hunter2@host/x"}
            },
        },
    }
    monkeypatch.setattr(sys, "argv", ["train.py", "--api-key", "hunter2"])
    with ExperimentLogger(config) as logger:
        pass
    for path in logger.run_dir.rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes(), path
    assert b"hunter2" not in b"".join(path.read_bytes() for path in logger.run_dir.rglob("*.rlj"))


def test_a_place_whose_path_is_no_unicode_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / os.fsdecode(b"l\xe4ufe")
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(SettingsError, match=r"mlflow: 'sqlite:.*/l\\udce4ufe/mlflow\.db.*' is no Unicode"):
        ExperimentLogger({"mlflow": {"tracking_uri": "sqlite:///mlflow.db"}}, dir=tmp_path, quiet=True)


def test_wrong_settings_raise_before_anything_is_made(tmp_path: Path) -> None:
    for config, words in (
        ({"wandb": {"mode": "onlin"}}, r"wandb\.mode: 'onlin' is not one of"),
        ({"mlflow": {"tracking": "x"}}, r"mlflow\.tracking"),
        ({"rl_logging": {"sinks": {"mlfow": {}}}}, r"no sink is called 'mlfow' \(did you mean 'mlflow'\?\)"),
    ):
        with pytest.raises(SettingsError, match=words):
            ExperimentLogger(config, dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"rl_logging\.dir: .*cannot be made"):
        ExperimentLogger(sinks=[], dir=tmp_path / "file")


def test_an_id_is_taken_once(tmp_path: Path) -> None:
    ExperimentLogger(sinks=[], dir=tmp_path, name="x", id="mine", quiet=True).finish()
    with pytest.raises(SettingsError, match="'mine' is taken"):
        ExperimentLogger(sinks=[], dir=tmp_path, name="x", id="mine", quiet=True)


def test_a_forked_child_warns_once_and_harms_nothing(logger: ExperimentLogger, store: MemoryStore) -> None:
    def child(connection: Any) -> None:
        told: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("rl_logging").addHandler(handler)
        logger.log_metrics({"child": 1})
        logger.log_metrics({"child": 2})
        logger.finish()
        connection.send(told)

    logger.log_metrics({"parent": 1})
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(theirs,))
    process.start()
    assert ours.poll(60)
    told = ours.recv()
    process.join(60)
    logger.log_metrics({"parent": 2})
    assert len(told) == 1
    assert "another process" in told[0]
    assert [set(row.values) for row in delivered(logger, store, Metrics)] == [{"parent"}, {"parent"}]


def test_a_pickled_logger_is_silent(logger: ExperimentLogger, caplog: pytest.LogCaptureFixture) -> None:
    copy = pickle.loads(pickle.dumps(logger))
    copy.log_metrics({"a": 1})
    copy.finish()
    assert copy.run_dir == logger.run_dir
    assert any("another process" in text for text in warnings(caplog))


def test_the_global_random_generators_are_left_alone(store: MemoryStore, tmp_path: Path) -> None:
    import random

    random.seed(3)
    np.random.seed(3)
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr,index]
    with ExperimentLogger(sinks={"memory": store.make}, dir=tmp_path, quiet=True) as logger:
        logger.log_metrics({"a": [1, 2]})
        logger.log_image("i", np.zeros((2, 2), np.uint8))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[union-attr,index]


def test_each_setting_is_a_keyword(tmp_path: Path) -> None:
    config = {"rl_logging": {"interval": 5, "names": "both"}}
    with (
        ExperimentLogger(config, sinks=[], dir=tmp_path, quiet=True, interval="step", finish_timeout_s=3) as logger,
        logger.child(names="native") as child,
    ):
        taken = logger.settings
        assert (taken.interval, taken.names, taken.finish_timeout_s) == ("step", "both", 3)
        assert (child.settings.interval, child.settings.names) == ("step", "native")


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("", "finished"),
        ("raise ValueError", "failed"),
        ("sys.exit(3)", "failed"),
        ("sys.exit()", "finished"),
        ("raise KeyboardInterrupt", "killed"),
        ("exit(3)", "failed"),
        ("quit()", "finished"),
        ("sys.excepthook = lambda *_: None\nraise ValueError", "failed"),
        ("try: sys.exit(4)\nexcept SystemExit: pass\nlog({'b': 1})", "finished"),
        ("try: sys.exit(4)\nexcept SystemExit: pass\nlog({'b': 1})\nsys.exit(5)", "failed"),
        ("try: sys.exit(4)\nfinally:\n    try: 1 / 0\n    except ZeroDivisionError: log({'b': 1})", "failed"),
        ("atexit.register(lambda: log({'b': 1}))\nsys.exit(4)", "failed"),
        ("thread = Thread(target=sys.exit, args=[3])\nthread.start()\nthread.join()", "finished"),
        # Another thread, which the exit waits for, logs on.
        (
            "Thread(target=lambda: left.wait() and log({'b': 1})).start()\ntry: sys.exit(3)\nfinally: left.set()",
            "failed",
        ),
    ],
)
def test_without_with_the_exit_finishes_the_run(tmp_path: Path, ending: str, status: str) -> None:
    script = f"""
import atexit, sys
from threading import Event, Thread
from rl_logging import ExperimentLogger
sinks = {{"file": {{"factory": "rl_logging.testing.files:make", "path": "out.jsonl"}}}}
logger = ExperimentLogger(sinks=sinks, delivery="thread", quiet=True)
logger.log_metrics({{"a": 1}})
log, left = logger.log_metrics, Event()
{ending}
"""
    (tmp_path / "train.py").write_text(script)
    subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, timeout=180)
    store = FileStore(tmp_path / "out.jsonl")
    assert store.points()[0] == ("a", 0, 1.0)
    assert store.status() == status


def test_blocks_go_to_stderr_unless_logging_is_set_up_or_quiet_says_no(tmp_path: Path) -> None:
    base = (
        "import logging\nfrom rl_logging import ExperimentLogger\n{}\nExperimentLogger(sinks=[], name='x'{}).finish()"
    )

    def said(setup: str, options: str) -> tuple[str, str]:
        command = [sys.executable, "-c", base.format(setup, options)]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=180)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout, ran.stderr

    out, err = said("", "")
    assert out == ""
    assert "run 'x'" in err
    assert "directory" in err
    assert "finished" in err
    out, err = said("logging.basicConfig(level=logging.INFO, format='%(name)s: %(message)s')", "")
    assert "rl_logging: rl_logging 0" in err
    out, err = said("logging.basicConfig(level=logging.WARNING)", "")
    assert "directory" not in err
    out, err = said("", ", quiet=True")
    assert "directory" not in err


def test_the_core_imports_neither_sdk_nor_torch_nor_numpy(tmp_path: Path) -> None:
    script = (
        "import sys; from rl_logging import ExperimentLogger\n"
        "with ExperimentLogger({'wandb': {'mode': 'offline'}, 'mlflow': {}}, delivery='offline') as logger:\n"
        "    logger.log_metrics({'a': 1.0})\n"
        "print([name for name in ('mlflow', 'wandb', 'torch', 'numpy', 'PIL', 'gymnasium') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert ran.stdout.strip() == "[]", ran.stderr


def test_the_run_directory_is_ignored_by_git(logger: ExperimentLogger) -> None:
    assert (logger.run_dir.parent / ".gitignore").read_text() == "*\n"
    assert os.access(logger.run_dir / "run.json", os.R_OK)


def test_an_id_is_taken_whatever_the_name(tmp_path: Path) -> None:
    ExperimentLogger(sinks=[], dir=tmp_path, name="one", id="mine", quiet=True).finish()
    with pytest.raises(SettingsError, match="'mine' is taken"):
        ExperimentLogger(sinks=[], dir=tmp_path, name="two", id="mine", quiet=True)


def test_ctrl_c_while_finish_waits_tells_what_is_owed(
    store: MemoryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = JournaledRun._wait_for_delivery

    def waiting(run: JournaledRun, deadline: float) -> None:
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
        wait(run, deadline)

    monkeypatch.setattr(JournaledRun, "_wait_for_delivery", waiting)
    caplog.set_level("INFO", "rl_logging")
    store.hold_writes()
    logger = ExperimentLogger(sinks={"memory": store.make}, dir=tmp_path / "runs")
    logger.log_metrics({"a": 1})
    assert store.wait_for(lambda it: it.blocked == 1)
    with pytest.raises(KeyboardInterrupt):
        logger.finish(timeout=60)
    assert "still owed" in caplog.records[-1].getMessage()
    store.release_writes()


def test_ctrl_c_at_the_exit_ends_the_waiting_for_every_logger_and_no_run(tmp_path: Path) -> None:
    script = """
import os, signal, threading
from rl_logging import ExperimentLogger
from rl_logging.run.journaled import JournaledRun
from rl_logging.testing import MemoryStore

store, wait = MemoryStore(), JournaledRun._wait_for_delivery
store.hold_writes()

def waiting(run, deadline):
    JournaledRun._wait_for_delivery = wait
    threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
    wait(run, deadline)

JournaledRun._wait_for_delivery = waiting
for name in ("one", "two"):
    ExperimentLogger(sinks={"memory": store.make}, name=name, dir="runs").log_metrics({"a": 1})
"""
    (tmp_path / "train.py").write_text(script)
    ran = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert re.findall(r"run '(\w+)' (finished|killed)|(Error|Interrupt)", ran.stderr) == [
        ("one", "finished", ""),
        ("two", "finished", ""),
    ]


def test_ctrl_c_while_finish_waits_for_the_environment_ends_the_run(
    logger: ExperimentLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LookAround, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        logger.finish("failed")
    bundle = Bundle(logger.run_dir)
    assert decode(JournalReader(bundle.journal).read(100, final=True)[-1]).kind == "end"
    writer = bundle.writer()
    assert writer is not None
    assert writer.released


def test_no_verb_raises_whatever_it_is_given(logger: ExperimentLogger, caplog: pytest.LogCaptureFixture) -> None:
    logger.set_tags(None)  # type: ignore[arg-type]
    logger.set_tags(5)  # type: ignore[arg-type]
    logger.log_artifact(None)  # type: ignore[arg-type]
    logger.set_clock(lambda: 1 // 0)
    logger.log_metrics({"a": 1})
    assert logger.step >= 0
    logger.on_finish(logger.finish)
    logger.flush(float("inf"))
    logger.finish(timeout=float("inf"))


def test_the_keyword_for_sinks_overrides_the_sections_and_takes_their_options(tmp_path: Path) -> None:
    config = {"mlflow": {"tracking_uri": f"sqlite:///{tmp_path}/x.db"}, "wandb": {"mode": "offline"}}
    with ExperimentLogger(config, sinks=["mlflow"], delivery="offline", dir=tmp_path, quiet=True) as logger:
        pass
    (entry,) = Bundle(logger.run_dir).manifest.sinks
    assert (entry.name, entry.options["tracking_uri"]) == ("mlflow", f"sqlite:///{tmp_path}/x.db")
