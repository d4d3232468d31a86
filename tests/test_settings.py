from __future__ import annotations

import argparse
import dataclasses
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from rl_logging import plugins
from rl_logging.settings import Loaded, load
from rl_logging.settings.sections import SettingsError, logged, plain
from rl_logging.testing.memory import MemoryStore


def loaded(config: object = None, environ: dict[str, str] | None = None, **keywords: Any) -> Loaded:
    return load(config, keywords, environ or {})


def sinks_of(config: object, **keywords: Any) -> dict[str, dict[str, Any]]:
    return {sink.name: sink.options for sink in loaded(config, **keywords).sinks}


@dataclasses.dataclass
class Wandb:
    project: str = "p"
    mode: str = "offline"


@dataclasses.dataclass
class Arguments:
    lr: float = 0.1
    wandb: Wandb = dataclasses.field(default_factory=Wandb)


CONFIGS = {
    "mapping": {"lr": 0.1, "wandb": {"project": "p", "mode": "offline"}},
    "omegaconf": OmegaConf.create({"lr": 0.1, "p": "p", "wandb": {"project": "${p}", "mode": "offline"}}),
    "mapping holding omegaconf": {"lr": 0.1, "wandb": OmegaConf.create({"project": "p", "mode": "offline"})},
    "dataclass": Arguments(),
    "namespace": argparse.Namespace(lr=0.1, wandb={"project": "p", "mode": "offline"}),
    "anything with vars": types.SimpleNamespace(lr=0.1, wandb=Wandb()),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_kind_of_configuration_gives_the_same(config: object) -> None:
    assert sinks_of(config) == {"wandb": {"project": "p", "mode": "offline"}}
    assert logged(plain(config))["lr"] == 0.1


def test_a_yaml_file_is_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("rl_logging:\n  name: a run\nwandb:\n  project: p\n")
    assert loaded(path).settings.name == loaded(str(path)).settings.name == "a run"
    assert sinks_of(path) == {"wandb": {"project": "p"}}


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), ("a: [", "is not YAML"), ("- a", "holds a list, not a mapping")]
)
def test_a_bad_yaml_file_is_told(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "train.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=words):
        loaded(path)


@pytest.mark.parametrize("config", [5, [1], "no such file.yaml", print, Arguments])
def test_what_is_no_configuration_is_told(config: object) -> None:
    with pytest.raises(SettingsError, match="config"):
        loaded(config)


def test_only_the_settings_sections_must_resolve() -> None:
    model = {"size": "${nowhere}", "depth": "???", "width": 3}
    config = OmegaConf.create({"model": model, "rl_logging": {"name": "n"}})
    assert logged(plain(config)) == {
        "model": {"size": "${nowhere}", "depth": "???", "width": 3},
        "rl_logging": {"name": "n"},
    }
    with pytest.raises(SettingsError, match=r"wandb: does not resolve: .*nowhere"):
        loaded(OmegaConf.create({"wandb": {"project": "${nowhere}"}}))
    with pytest.raises(SettingsError, match=r"wandb\.project: '\$\{nowhere\}' does not resolve"):
        loaded({"wandb": {"project": "${nowhere}"}})
    with pytest.raises(SettingsError, match=r"rl_logging\.name: '\?\?\?' does not resolve"):
        loaded({"rl_logging": {"name": "???"}})


def test_callables_spaces_and_classes_become_text() -> None:
    import gymnasium as gym

    config = {"act": len, "space": gym.spaces.Discrete(3), "policy": Arguments, "nested": {"schedule": lambda x: x}}
    assert logged(plain(config)) == {
        "act": "<function len>",
        "space": "Discrete(3)",
        "policy": f"{__name__}.Arguments",
        "nested": {"schedule": "<function test_callables_spaces_and_classes_become_text.<locals>.<lambda>>"},
    }


def test_keywords_go_before_variables_before_the_configuration() -> None:
    config = {"rl_logging": {"name": "config", "project": "config", "dir": "config"}}
    environ = {"RL_LOGGING_NAME": "variable", "RL_LOGGING_PROJECT": "variable"}
    settings = loaded(config, environ, name="keyword").settings
    assert (settings.name, settings.project, settings.dir) == ("keyword", "variable", "config")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("interval", "5", 5),
        ("interval", "Balanced ", "balanced"),
        ("quiet", "true", True),
        ("finish_timeout_s", "2.5", 2.5),
        ("metric_filter", "g, !eval/*", ("g", "!eval/*")),
        ("metric_filter", "[a, b]", ("a", "b")),
        ("tags", "a,b", ("a", "b")),
        ("delivery", "offline", "offline"),
        ("aliases", '{"Info / x": mine}', {"Info / x": "mine"}),
        ("max_depth", "3", 3),
        ("system_metrics", "yes", True),
        ("system_metrics", "30", 30.0),
    ],
)
def test_every_setting_can_be_a_variable(key: str, text: str, value: object) -> None:
    assert getattr(loaded(None, {f"RL_LOGGING_{key.upper()}": text}).settings, key) == value


@pytest.mark.parametrize(("value", "seconds"), [(False, None), (True, 10.0), (None, None), (2, 2.0), (0.5, 0.5)])
def test_system_metrics_are_off_or_have_an_interval(value: Any, seconds: float | None) -> None:
    assert loaded({"rl_logging": {"system_metrics": value}}).settings.system_metrics_s == seconds


def test_sinks_can_be_a_variable() -> None:
    found = load(None, {}, {"RL_LOGGING_SINKS": "{wandb: {mode: offline}}"}).sinks
    assert [(sink.name, sink.options) for sink in found] == [("wandb", {"mode": "offline"})]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"delivery": "proces"}, r"rl_logging\.delivery: 'proces' is not one of .* \(did you mean 'process'\?\)"),
        ({"delivry": "process"}, r"rl_logging\.delivry: there is no such setting \(did you mean 'delivery'\?\)"),
        ({"interval": 0}, r"rl_logging\.interval: 0 is not one of framework, step, balanced, rollout"),
        ({"interval": "rolout"}, r"did you mean 'rollout'"),
        ({"interval": True}, r"rl_logging\.interval: True"),
        ({"names": "cannonical"}, r"did you mean 'canonical'"),
        ({"quiet": "maybe"}, r"rl_logging\.quiet: got 'maybe', may be true or false"),
        ({"finish_timeout_s": -1}, r"rl_logging\.finish_timeout_s: got -1, may be a number of seconds"),
        ({"dir": 5}, r"rl_logging\.dir: got 5, may be the path of a folder"),
        ({"id": "../x"}, r"rl_logging\.id: got '../x', may be up to 64"),
        ({"metric_filter": [""]}, r"rl_logging\.metric_filter: got \[''\], may be a list of names"),
        ({"metric_filter": 3}, r"rl_logging\.metric_filter: got 3, may be a list of texts"),
        ({"tags": [{}]}, r"rl_logging\.tags"),
        ({"aliases": ["a"]}, r"rl_logging\.aliases: got \['a'\], may be a mapping of a metric's native or canonical"),
        ({"aliases": {"a": ""}}, r"rl_logging\.aliases: got 'a': '', may be a mapping"),
        ({"aliases": {"a": 1}}, r"rl_logging\.aliases: got 'a': 1, may be a mapping"),
        ({"aliases": {"a": "x" * 251}}, r"rl_logging\.aliases\.a: got 'x+', may be a name of at most 250 characters"),
        ({"aliases": {"a": "x\ty"}}, r"rl_logging\.aliases\.a: got 'x\\ty', may be a name .* control character"),
        ({"max_depth": -1}, r"rl_logging\.max_depth: got -1, may be a number of levels from 0 to 32"),
        ({"max_depth": True}, r"rl_logging\.max_depth: got True"),
        ({"system_metrics": "often"}, r"rl_logging\.system_metrics: got 'often', may be true, false, or a number of s"),
        ({"system_metrics": 0.01}, r"rl_logging\.system_metrics: got 0\.01"),
        ({"sinks": 5}, r"rl_logging\.sinks: got 5, may be \{name: options\} or a list of names"),
        ({"sinks": {"x": 5}}, r"rl_logging\.sinks\.x: got 5, may be a mapping"),
        ({"sinks": {"x": {"factory": 5}}}, r"rl_logging\.sinks\.x\.factory: got 5"),
        ({"sinks": {"x": {"a": object()}}}, r"rl_logging\.sinks\.x: options must be JSON values"),
    ],
)
def test_a_wrong_setting_names_the_key_what_it_got_and_what_it_may_be(section: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        loaded({"rl_logging": section})


def test_an_error_names_where_the_value_came_from() -> None:
    with pytest.raises(SettingsError, match=r"^RL_LOGGING_DELIVERY: 'x' is not one of"):
        loaded(None, {"RL_LOGGING_DELIVERY": "x"})
    with pytest.raises(SettingsError, match=r"^delivery: 'x' is not one of"):
        loaded(None, delivery="x")
    with pytest.raises(SettingsError, match=r"^intervall: there is no such setting \(did you mean 'interval'\?\)"):
        loaded(None, intervall=None)
    with pytest.raises(SettingsError, match=r"^wandb: got 'p', may be a mapping"):
        loaded({"wandb": "p"})


def test_a_sink_configured_twice_is_told() -> None:
    with pytest.raises(SettingsError, match=r"mlflow: this sink is configured twice.*rl_logging\.sinks\.mlflow"):
        loaded({"rl_logging": {"sinks": {"mlflow": {}}}, "mlflow": {}})


@pytest.mark.parametrize("key", ["wanbd", "ml_flow", "rl-loging"])
def test_a_section_that_nearly_is_ours_is_told(key: str) -> None:
    assert any(key in notice and "did you mean" in notice for notice in loaded({key: {}}).notices)


def test_a_variable_that_nearly_is_ours_is_told() -> None:
    assert any("RL_LOGGING_DELIVRY" in notice for notice in loaded(None, {"RL_LOGGING_DELIVRY": "x"}).notices)


def test_other_sections_are_nobodys_business() -> None:
    assert loaded({"model": {}, "logging": {}, "env": {}, "log": {}}).notices == ()


def test_without_any_sink_it_is_mlflow_where_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sinks_of(None) == {"mlflow": {}}
    assert sinks_of({"mlflow": None}) == sinks_of({"mlflow": False}) == {}
    assert sinks_of({"rl_logging": {"sinks": {}}}) == sinks_of({"rl_logging": {"sinks": None}}) == {"mlflow": {}}
    assert sinks_of({"rl_logging": {"sinks": []}}) == sinks_of({"rl_logging": {"sinks": False}}) == {}
    assert sinks_of({"wandb": {}}) == {"wandb": {}}
    monkeypatch.setattr(plugins, "sdk_present", lambda name: False)
    assert sinks_of(None) == {}


def test_the_forms_sinks_may_take() -> None:
    store = MemoryStore()
    assert sinks_of(None, sinks=["mlflow", "wandb"]) == {"mlflow": {}, "wandb": {}}
    assert sinks_of(None, sinks="mlflow") == {"mlflow": {}}
    assert sinks_of(None, sinks={"mlflow": True, "wandb": None}) == {"mlflow": {}}
    given = loaded(None, sinks={"memory": store.make}).sinks[0]
    assert (given.name, given.given) == ("memory", store.make)
    factory = loaded({"rl_logging": {"sinks": {"mine": {"factory": "a.b:c", "x": 1}}}}).sinks[0]
    assert (factory.factory, factory.options) == ("a.b:c", {"x": 1})


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(ANYTHING)
def test_no_value_of_a_setting_raises_anything_but_a_settings_error(value: Any) -> None:
    keys = ("name", "tags", "interval", "delivery", "metric_filter", "sinks", "quiet", "id", "aliases", "max_depth")
    for key in (*keys, "system_metrics"):
        told = ""
        try:
            load({"rl_logging": {key: value}}, {}, {})
        except SettingsError as error:
            told = str(error)
        assert not told or f"rl_logging.{key}" in told
