"""The logger for tests of training code: what it keeps is what the real one would."""

from __future__ import annotations

import gc
import json
import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rl_logging import ExperimentLogger, SettingsError
from rl_logging.extraction.names import NameTable
from rl_logging.testing import RecordingLogger


def test_metrics_are_converted_as_by_the_real_one() -> None:
    logger = RecordingLogger()
    metrics = {"loss": np.float32(0.5), "eval": {"reward": 1}, "weights": [1.0, 3.0], "nothing": None}
    logger.log_metrics(metrics, step=10)
    logger.log_metrics({"loss": math.nan}, step=20)
    first = {"loss": 0.5, "eval/reward": 1.0, "weights/mean": 2.0, "weights/std": 1.0, "weights/min": 1.0}
    assert logger.metrics[0] == {**first, "weights/max": 3.0}
    assert logger.series("loss")[0] == (10, 0.5)
    assert logger.series("loss")[1][0] == 20
    assert math.isnan(logger.values("loss")[1])
    assert logger.names[:2] == ["loss", "eval/reward"]


def test_what_cannot_be_logged_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    logger = RecordingLogger()
    for _ in range(2):
        logger.log_metrics({"loss": "low", "reward": 1.0}, step=1)
    assert logger.values("reward") == [1.0, 1.0]
    assert len(logger.warnings) == 1
    assert "loss" in logger.warnings[0]
    assert logger.warnings[0] in caplog.text


def test_configuration_is_merged() -> None:
    logger = RecordingLogger({"seed": 7, "net": {"layers": 2}, "mlflow": {"tracking_uri": "http://127.0.0.1:1"}})
    logger.log_config({"net": {"width": 64}, "seed": 8})
    assert logger.config["net"] == {"layers": 2, "width": 64}
    assert logger.config["seed"] == 8
    assert logger.run_id("mlflow") is None


def test_wrong_settings_raise_all_the_same() -> None:
    with pytest.raises(SettingsError, match="interval"):
        RecordingLogger({"rl_logging": {"interval": "often"}})


def test_the_filter_holds() -> None:
    logger = RecordingLogger({"rl_logging": {"metric_filter": ["train/*"]}})
    logger.log_metrics({"train/loss": 1.0, "eval/loss": 2.0}, step=1)
    assert logger.names == ["train/loss"]


def test_steps_count_up_without_one() -> None:
    logger = RecordingLogger()
    for loss in (1.0, 2.0):
        logger.log_metrics({"loss": loss})
    logger.log_metrics({"loss": 3.0}, step=50)
    logger.log_metrics({"loss": 4.0})
    assert logger.series("loss") == [(0, 1.0), (1, 2.0), (50, 3.0), (51, 4.0)]
    assert logger.step == 51


def test_files_are_kept(tmp_path: Path) -> None:
    logger = RecordingLogger(dir=tmp_path / "run")
    (tmp_path / "curve.csv").write_text("1,2\n")
    logger.log_artifact(tmp_path / "curve.csv", type="plot")
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    logger.log_image("state", pixels, step=3, caption="start")
    logger.log_video("episode", np.zeros((5, 16, 16, 3), dtype=np.uint8), step=4, fps=10)
    (artifact,), (image,), (video,) = logger.artifacts, logger.images, logger.videos
    assert logger.warnings == []
    assert (artifact.name, artifact.type) == ("curve.csv", "plot")
    assert logger.file_of(artifact).read_text() == "1,2\n"
    assert (image.name, image.step, image.caption) == ("state", 3, "start")
    assert (video.name, video.step, video.fps) == ("episode", 4, 10.0)
    with PIL.Image.open(logger.file_of(image)) as picture:
        assert picture.format == "PNG"
        assert np.array_equal(np.asarray(picture), pixels)
    assert logger.file_of(video).suffix == ".mp4"
    assert b"ftyp" in logger.file_of(video).read_bytes()[:16]


def test_models_are_saved(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"1234")
    logger = RecordingLogger()
    metadata = {"reward": 1.5}
    saved = logger.save_model(tmp_path / "weights.bin", name="policy", metadata=metadata, step=9, aliases=["best"])
    (model,) = logger.models
    assert saved is not None
    assert saved.path == logger.file_of(model)
    assert (model.name, model.step, model.metadata, model.aliases) == ("policy", 9, {"reward": 1.5}, ("best",))
    assert (saved.path / "weights.bin").read_bytes() == b"1234"
    assert json.loads((saved.path / "metadata.json").read_text())["step"] == 9


def test_a_discarded_model_stays_to_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"1234")
    logger = RecordingLogger()
    saved = logger.save_model(tmp_path / "weights.bin", name="policy", step=9)
    assert saved is not None
    assert not logger.discard_model(saved)
    assert (logger.file_of(logger.models[0]) / "weights.bin").exists()
    assert logger.warnings == []


def test_labels_stand_as_they_were_set_last() -> None:
    logger = RecordingLogger(tags=["first"], notes="Before.")
    assert (logger.tags, logger.notes) == (("first",), "Before.")
    logger.set_tags("second", "third")
    logger.set_notes("After.")
    assert (logger.tags, logger.notes) == (("second", "third"), "After.")


def test_endings() -> None:
    with RecordingLogger() as finished:
        assert finished.ended is None
        assert finished.flush(timeout=0)
    with pytest.raises(ZeroDivisionError), RecordingLogger() as failed:
        failed.log_metrics({"loss": 1 / 0})
    assert (finished.ended, failed.ended) == ("finished", "failed")
    finished.log_metrics({"late": 1.0})
    assert finished.names == []
    assert len(finished.warnings) == 1
    assert finished.status()["memory"].pending == 0
    assert finished.status()["memory"].phase == "done"


def test_an_adapter_s_pipeline_works() -> None:
    logger = RecordingLogger({"rl_logging": {"names": "both"}})
    pipeline = logger.pipeline(NameTable({"train/policy_gradient_loss": "policy_loss"}, str))
    pipeline.record("train/policy_gradient_loss", 0.5)
    pipeline.emit(128)
    assert logger.series("policy_loss") == [(128, 0.5)]
    assert logger.series("train/policy_gradient_loss") == [(128, 0.5)]
    clock = 5
    logger.set_clock(lambda: clock)
    logger.log_metrics({"own": 1.0})
    assert logger.series("own") == [(5, 1.0)]
    finishing = []
    logger.on_finish(lambda: finishing.append(logger.ended))
    logger.finish()
    assert finishing == [None]


def test_several_threads() -> None:
    logger = RecordingLogger()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda step: logger.log_metrics({"n": step}, step=step), range(400)))
    assert sorted(logger.series("n")) == [(step, float(step)) for step in range(400)]
    assert [record.seq for record in logger.records] == list(range(1, 401))


def test_it_is_an_experiment_logger_and_starts_nothing(tmp_path: Path) -> None:
    logger = RecordingLogger({"wandb": {"project": "x"}})
    assert isinstance(logger, ExperimentLogger)
    logger.log_metrics({"loss": 1.0})
    logger.finish()
    assert not (tmp_path / "rl_runs").exists()


def test_a_pickled_one_is_silent() -> None:
    logger = RecordingLogger()
    copy = pickle.loads(pickle.dumps(logger))
    copy.log_metrics({"loss": 1.0})
    assert copy.records == []
    assert len(copy.warnings) == 1


def test_its_files_go_with_it() -> None:
    logger = RecordingLogger()
    folder = logger.run_dir
    assert folder.is_dir()
    del logger
    gc.collect()
    assert not folder.exists()
