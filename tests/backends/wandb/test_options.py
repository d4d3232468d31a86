from __future__ import annotations

import importlib.metadata
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rl_logging.hookspecs import Surroundings
from rl_logging_wandb import options as wandb_options
from rl_logging_wandb import (
    rl_logging_check_options,
    rl_logging_destination,
    rl_logging_look_command,
    rl_logging_resolve_options,
)
from rl_logging_wandb.version import settings_fields
from tests.support.wandb_sink import make_context, make_sink

KEY = "k" * 40


def check(**options: Any) -> list[str]:
    return rl_logging_check_options("wandb", options)


def resolve(tmp_path: Path, options: dict[str, Any] | None = None, project: str | None = None, **environ: str) -> Any:
    surroundings = Surroundings(project=project, cwd=tmp_path, environ={"HOME": str(tmp_path / "home"), **environ})
    return rl_logging_resolve_options("wandb", options or {}, surroundings)


def test_what_makes_sense_passes() -> None:
    options: dict[str, Any] = dict.fromkeys(wandb_options.TEXTS, "text")
    options |= {key: ["a"] for key in wandb_options.LISTS}
    options |= {"base_url": "https://wandb.example.org", "mode": "offline", "settings": {"init_timeout": 5}}

    assert check(**options) == []
    assert check(**dict.fromkeys(options)) == []


def test_every_argument_of_wandb_init_is_taken_or_refused() -> None:
    import wandb

    decided = set(wandb_options.KNOWN) | set(wandb_options.REFUSED)

    assert set(inspect.signature(wandb.init).parameters) <= decided
    assert not set(wandb_options.KNOWN) & set(wandb_options.REFUSED)
    assert set(wandb_options.REFUSED_SETTINGS) <= set(wandb.Settings.model_fields)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "onlin"}, "wandb.mode: 'onlin' is not one of online, offline, disabled (did you mean 'online'?)"),
        ({"mode": "shared"}, "wandb.mode: 'shared' is not one of online, offline, disabled"),
        ({"config": {"a": 1}}, "wandb.config: not an option here: use ExperimentLogger(config) or log_config"),
        ({"api_key": KEY}, "wandb.api_key: not an option here: set WANDB_API_KEY"),
        ({"resume": "must"}, "wandb.resume: not an option here: give the run's 'id'"),
        ({"projct": "x"}, "wandb.projct: unknown (did you mean 'project'?)"),
        ({"project": "a/b"}, "wandb.project: 'a/b' has /"),
        ({"project": 3}, "wandb.project: 3 is not a text"),
        ({"tags": "one"}, "wandb.tags: 'one' is not a list of texts"),
        ({"id": "a/b"}, "wandb.id: 'a/b' is not a run id"),
        ({"base_url": "wandb.ai"}, "wandb.base_url: 'wandb.ai' is not the address of a server"),
        ({"settings": ["x"]}, "wandb.settings: ['x'] is not a mapping"),
        ({"settings": {"api_key": KEY}}, "wandb.settings.api_key: set WANDB_API_KEY"),
        ({"settings": {"console": "wrap"}}, "wandb.settings.console: "),
        ({"settings": {"init_timeot": 5}}, "wandb.settings.init_timeot: wandb "),
    ],
)
def test_what_is_wrong_is_named(options: dict[str, Any], words: str) -> None:
    (said,) = check(**options)

    assert said.startswith(words)
    assert KEY not in said


def test_a_missing_sdk_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A folder that W&B left in the working directory is no SDK.
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    assert check() == ["the 'wandb' sink needs wandb: pip install 'rl-logging[wandb]'"]


def test_the_fields_of_its_settings_are_known_without_importing_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    assert settings_fields() == set(wandb.Settings.model_fields)
    (said,) = check(settings={"init_timeot": 5})
    assert "did you mean 'init_timeout'?" in said
    # Where the source is not found, wandb itself refuses in the delivery process.
    monkeypatch.setattr(wandb_options, "settings_fields", frozenset)
    assert check(settings={"init_timeot": 5}) == []


@pytest.mark.parametrize(("version", "complaints"), [("0.30.9", 1), ("0.31.0rc1", 0), ("1.0", 0)])
def test_an_sdk_too_old_says_what_to_install(monkeypatch: pytest.MonkeyPatch, version: str, complaints: int) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)

    said = check()

    assert len(said) == complaints
    assert all(version in sentence and "wandb 0.31 or newer" in sentence for sentence in said)


def test_mode_is_offline_with_one_notice_where_no_key_is(tmp_path: Path) -> None:
    resolved = resolve(tmp_path)

    assert resolved["mode"] == "offline"
    assert resolved["dir"] == str(tmp_path)
    (notice,) = resolved["notices"]
    assert "wandb login" in notice
    assert "notices" not in resolve(tmp_path, {"mode": "offline"})


@pytest.mark.parametrize(
    ("environ", "mode"),
    [
        ({"WANDB_API_KEY": KEY}, "online"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "offline"),
        ({"WANDB_MODE": "online"}, "online"),
        ({"WANDB_MODE": "dryrun"}, "offline"),
        ({"WANDB_MODE": "disabled"}, "disabled"),
    ],
)
def test_mode_follows_the_environment(tmp_path: Path, environ: dict[str, str], mode: str) -> None:
    resolved = resolve(tmp_path, **environ)

    assert resolved["mode"] == mode
    assert "notices" not in resolved
    assert KEY not in str(resolved)


def test_a_key_in_netrc_counts_for_its_host_only(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(exist_ok=True)
    netrc = tmp_path / "home/.netrc"
    netrc.write_text(f"machine wandb.example.org login user password {KEY}\n")
    assert resolve(tmp_path)["mode"] == "offline"
    assert resolve(tmp_path, WANDB_BASE_URL="https://wandb.example.org")["mode"] == "online"

    netrc.write_text(f"machine api.wandb.ai login user password {KEY}\n")
    assert resolve(tmp_path)["mode"] == "online"
    assert resolve(tmp_path, WANDB_BASE_URL="https://wandb.example.org")["mode"] == "offline"

    netrc.write_text("machine\n")
    assert resolve(tmp_path)["mode"] == "offline"


def test_settings_files_count_the_local_one_first(tmp_path: Path) -> None:
    for folder, text in (("config", "mode = online\nproject = far\nentity = team"), ("wandb", "project = ne%ar")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "settings").write_text(f"[default]\n{text}\n")

    resolved = resolve(tmp_path, WANDB_CONFIG_DIR=str(tmp_path / "config"))

    assert (resolved["mode"], resolved["project"], resolved["entity"]) == ("online", "ne%ar", "team")


def test_defaults_come_from_the_environment_and_options_win(tmp_path: Path) -> None:
    environ = {"WANDB_PROJECT": "p", "WANDB_ENTITY": "e", "WANDB_TAGS": "a, b", "WANDB_DIR": "sub", "WANDB_NAME": "n"}

    resolved = resolve(tmp_path, {"mode": "offline", "entity": "mine"}, "ours", **environ)

    assert (resolved["project"], resolved["entity"], resolved["name"]) == ("p", "mine", "n")
    assert (resolved["tags"], resolved["dir"]) == (["a", "b"], str(tmp_path / "sub"))
    assert resolve(tmp_path, {"mode": "offline"}, "ours")["project"] == "ours"


def test_our_project_is_made_fit_and_told(tmp_path: Path) -> None:
    resolved = resolve(tmp_path, {"mode": "offline"}, "team/rl")

    assert resolved["project"] == "team-rl"
    assert "team/rl" in resolved["notices"][0]


def test_an_active_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    monkeypatch.setattr(wandb, "run", None)  # a finished disabled run is not taken back by wandb
    with wandb.init(mode="disabled", name="theirs", id="their-id"):
        (notice,) = resolve(tmp_path, {"mode": "offline", "id": "our-id"})["notices"]

    assert "their-id" in notice
    assert "our-id" in notice


def test_destinations_differ_where_runs_do() -> None:
    offline = {"mode": "offline", "dir": "/logs"}
    online = {"mode": "online", "dir": "/logs", "entity": "e", "project": "p"}

    assert rl_logging_destination("wandb", offline) == "/logs/wandb"
    assert rl_logging_destination("wandb", online) == "https://wandb.ai/e/p/-"
    assert rl_logging_destination("wandb", {**online, "base_url": "http://h/", "id": "i"}) == "http://h/e/p/i"


def test_look_command_names_every_directory() -> None:
    state = {"fragments": ["/a/wandb/offline-run-1-x", "/with space/wandb/offline-run-2-x"], "url": "http://h"}

    said = rl_logging_look_command("wandb", {"mode": "offline"}, state)

    assert said == "wandb sync /a/wandb/offline-run-1-x '/with space/wandb/offline-run-2-x'"
    assert rl_logging_look_command("wandb", {"mode": "online"}, state) == "http://h"
    assert rl_logging_look_command("wandb", {"mode": "disabled"}, {}) is None


def test_disabled_takes_nothing(tmp_path: Path) -> None:
    sink = make_sink(make_context(tmp_path / "run"), {"mode": "disabled", "dir": str(tmp_path)})

    assert sink.accepts == frozenset()
    assert sink.open(None) == {}
    sink.close("finished")


def test_the_plugin_and_its_checks_import_no_sdk(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import rl_logging_wandb as plugin
from rl_logging.hookspecs import Surroundings
assert plugin.rl_logging_check_options("wandb", {"mode": "offline"}) == []
resolved = plugin.rl_logging_resolve_options("wandb", {}, Surroundings(project=None, cwd=Path("."), environ={}))
plugin.rl_logging_destination("wandb", resolved)
plugin.rl_logging_look_command("wandb", resolved, {})
print([name for name in sys.modules if name.split(".")[0] in ("wandb", "torch", "google")])
"""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
        cwd=tmp_path,
    )

    assert ran.stdout.strip() == "[]"
