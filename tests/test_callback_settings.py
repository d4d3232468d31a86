from __future__ import annotations

import inspect
import json
from typing import Any

import msgspec
import pytest
from omegaconf import OmegaConf

from rl_logging.settings import Loaded, Settings, as_dict, load
from rl_logging.settings.callbacks import CheckpointSettings, EvalSettings, VideoSettings
from rl_logging.settings.sections import SettingsError


def loaded(config: object = None, environ: dict[str, str] | None = None) -> Loaded:
    return load(config, {}, environ or {})


def settings_of(section: dict[str, Any]) -> Settings:
    return loaded({"rl_logging": section}).settings


def test_they_are_off_until_they_are_asked_for() -> None:
    for section in ({}, {"eval": False, "checkpoint": False, "video": False}, {"eval": None}):
        found = settings_of(section)
        assert (found.eval, found.checkpoint, found.video) == (None, None, None)


def test_true_turns_them_on_and_a_mapping_sets_them() -> None:
    found = settings_of({"eval": True, "checkpoint": {}, "video": {"fps": 12, "every_steps": 1e5}})
    assert found.eval == EvalSettings()
    assert found.checkpoint == CheckpointSettings()
    assert found.video == VideoSettings(fps=12.0, every_steps=100_000)
    config = OmegaConf.create({"n": 5, "rl_logging": {"checkpoint": {"every_steps": "${n}", "upload": "LAST"}}})
    assert loaded(config).settings.checkpoint == CheckpointSettings(every_steps=5, upload="last")


def test_environment_variables_are_yaml() -> None:
    config = {"rl_logging": {"eval": {"episodes": 3}, "video": True}}
    environ = {"RL_LOGGING_EVAL": "{every_steps: 5000}", "RL_LOGGING_VIDEO": "false", "RL_LOGGING_CHECKPOINT": "true"}
    found = loaded(config, environ).settings
    assert found.eval == EvalSettings(every_steps=5000)
    assert found.video is None
    assert found.checkpoint == CheckpointSettings()
    with pytest.raises(SettingsError, match=r"RL_LOGGING_EVAL.every_steps: got 'often'"):
        loaded({}, {"RL_LOGGING_EVAL": "{every_steps: often}"})


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"eval": {"eval_freq": 1000}}, r"rl_logging\.eval\.eval_freq: .* counts calls.* every_steps"),
        ({"checkpoint": {"save_freq": 1000}}, r"rl_logging\.checkpoint\.save_freq: .* counts calls.* every_steps"),
        ({"eval": {"every_step": 1}}, r"rl_logging\.eval\.every_step: .*did you mean 'every_steps'\?"),
        ({"eval": {"every_steps": 0}}, r"rl_logging\.eval\.every_steps: got 0, may be a whole number of 1 or more"),
        ({"eval": {"every_steps": True}}, "every_steps: got True"),
        ({"eval": {"episodes": 1.5}}, r"episodes: got 1\.5"),
        ({"eval": {"seed": -1}}, "seed: got -1"),
        ({"eval": {"deterministic": "yes"}}, "deterministic: got 'yes', may be true or false"),
        ({"eval": 5}, r"rl_logging\.eval: got 5, may be a mapping, true, or null"),
        ({"checkpoint": {"upload": "sometimes"}}, r"upload: 'sometimes' is not one of best, last, all, none"),
        ({"checkpoint": {"keep_last": 0}}, "keep_last: got 0"),
        ({"video": {"fps": 0}}, r"rl_logging\.video\.fps: got 0"),
        ({"video": {"max_steps": "all"}}, "max_steps: got 'all'"),
    ],
)
def test_what_is_wrong_is_named(section: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        settings_of(section)


def test_the_other_loggers_sections_are_read() -> None:
    config = {
        "experiment": {"eval_frequency": 2000},
        "video": {"enabled": True, "record_freq": 100, "fps": 10, "num_episodes": 2, "dir": "x"},
    }
    found = loaded(config)
    assert found.settings.eval == EvalSettings(every_steps=2000)
    assert found.settings.video == VideoSettings(every_steps=100, fps=10.0, episodes=2)
    assert found.notices == ()
    assert loaded(OmegaConf.create(config)).settings == found.settings
    assert loaded({"video": {"enabled": True}}).settings.video == VideoSettings()


@pytest.mark.parametrize(
    "config",
    [
        {"experiment": "mine", "video": "mine.mp4"},
        {"experiment": {"eval_frequency": 0}, "video": {"enabled": False, "record_freq": 3}},
        {"experiment": {"eval_frequency": None}, "video": {"record_freq": 3}},
        {"experiment": None, "video": True},
        {"experiment": [1], "video": 3},
        OmegaConf.create({"experiment": {"eval_frequency": "???"}, "video": {"enabled": "${nowhere}"}}),
        {"experiment": {"eval_frequency": 5}, "video": {"enabled": True}, "rl_logging": {"eval": False, "video": None}},
    ],
)
def test_what_they_do_not_ask_for_is_off(config: Any) -> None:
    found = loaded(config)
    assert (found.settings.eval, found.settings.video) == (None, None)
    assert found.notices == ()


def test_what_is_wrong_in_them_is_a_notice() -> None:
    found = loaded({"experiment": {"eval_frequency": "often"}, "video": {"enabled": True, "fps": -1}})
    assert found.settings.eval is None
    assert found.settings.video == VideoSettings()
    assert [notice.split(":")[0] for notice in found.notices] == ["experiment.eval_frequency", "video.fps"]


def test_they_can_be_kept() -> None:
    kept = as_dict(settings_of({"eval": True}))
    assert json.loads(json.dumps(kept))["eval"] == msgspec.to_builtins(EvalSettings())


def test_the_callbacks_have_the_same_defaults() -> None:
    adapter = pytest.importorskip("rl_logging.adapters.stable_baselines3")
    for settings, callback in (
        (EvalSettings(), adapter.EvalCallback),
        (CheckpointSettings(), adapter.CheckpointCallback),
        (VideoSettings(), adapter.VideoRecorderCallback),
    ):
        parameters = inspect.signature(callback).parameters
        for name, default in msgspec.structs.asdict(settings).items():
            assert parameters[name].default == default, name
