from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rl_logging.hookspecs import Surroundings
from rl_logging.plugins import SinkPlugin, load


@pytest.fixture
def plugin() -> SinkPlugin:
    return load("mlflow")


@pytest.fixture
def no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)


def resolve(plugin: SinkPlugin, cwd: Path, options: dict[str, Any], project: str | None = None, **environ: str) -> Any:
    return plugin.resolve_options(options, Surroundings(project=project, cwd=cwd, environ=environ))


def test_the_training_process_imports_no_mlflow() -> None:
    program = """
import sys
from pathlib import Path
from rl_logging.hookspecs import Surroundings
from rl_logging.plugins import load
plugin = load("mlflow")
assert plugin.check_options({"experiment": "x"}) == []
options = plugin.resolve_options({}, Surroundings(project="p", cwd=Path("/x"), environ={}))
plugin.destination(options)
plugin.look_command(options, {"url": None})
print(sorted(name for name in sys.modules if name.split(".")[0] in ("mlflow", "sqlalchemy", "requests")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=180, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_all_that_is_wrong_is_named_at_once(plugin: SinkPlugin) -> None:
    found = plugin.check_options(
        {
            "tracking_url": "http://x",
            "experiment": 3,
            "run_id": "a b",
            "tags": {"a": [1]},
            "tracking_uri": "sqlite:///:memory:",
        }
    )
    text = "\n".join(found)
    assert len(found) == 6
    assert "mlflow.tracking_url: there is no such key (did you mean 'tracking_uri'?)" in text
    assert "mlflow.experiment: 3 is not a non-empty text" in text
    assert "mlflow.run_id: 'a b' is not a run's id" in text
    assert "mlflow.tags.a: [1] is not" in text
    assert "in memory" in text
    assert "mlflow.experiment: means nothing beside mlflow.run_id" in text


@pytest.mark.parametrize("path", ["artifacts", "/{name}", "../{name}", "{name}/{seq}"])
def test_artifact_paths_that_are_none_are_told(plugin: SinkPlugin, path: str) -> None:
    (told,) = plugin.check_options({"artifact_path": path})
    assert told.startswith(f"mlflow.artifact_path: {path!r} is not a relative path with {{name}}")
    assert plugin.check_options({"artifact_path": "files/{name}/{step}"}) == []


def test_addresses_without_a_host_or_file_are_named(plugin: SinkPlugin) -> None:
    assert "no host" in plugin.check_options({"tracking_uri": "http://"})[0]
    assert "sqlite:///" in plugin.check_options({"tracking_uri": "sqlite://mlflow.db"})[0]


@pytest.mark.parametrize(
    "options",
    [{}, {"tracking_uri": None}, {"tags": ["a", "b"]}, {"tags": {"a": 1}}, {"experiment_id": 3}, {"run_id": "0af"}],
)
def test_right_options_pass(plugin: SinkPlugin, options: dict[str, Any]) -> None:
    assert plugin.check_options(options) == []


def test_a_missing_sdk_says_what_to_install(plugin: SinkPlugin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert plugin.check_options({}) == ["the 'mlflow' sink needs mlflow: pip install 'rl-logging[mlflow]'"]


@pytest.mark.usefixtures("no_mlflow")
def test_defaults_are_mlflows_own(plugin: SinkPlugin, tmp_path: Path) -> None:
    resolved = resolve(plugin, tmp_path, {})
    assert resolved["tracking_uri"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert resolved["experiment"] == "Default"
    assert "notices" not in resolved


@pytest.mark.usefixtures("no_mlflow")
def test_legacy_runs_stay_the_default_as_in_mlflow(plugin: SinkPlugin, tmp_path: Path) -> None:
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    (tmp_path / "mlruns" / "0" / "meta.yaml").touch()
    resolved = resolve(plugin, tmp_path, {})
    assert resolved["tracking_uri"] == (tmp_path / "mlruns").as_uri()
    assert "mlflow.tracking_uri" in resolved["notices"][0]


@pytest.mark.usefixtures("no_mlflow")
def test_the_environment_and_the_project_complete(plugin: SinkPlugin, tmp_path: Path) -> None:
    environ = {"MLFLOW_TRACKING_URI": "http://host:5000/", "MLFLOW_EXPERIMENT_NAME": "theirs"}
    assert resolve(plugin, tmp_path, {}, **environ)["experiment"] == "theirs"
    assert resolve(plugin, tmp_path, {}, **environ)["tracking_uri"] == "http://host:5000/"
    assert resolve(plugin, tmp_path, {}, project="mine", **environ)["experiment"] == "mine"
    assert resolve(plugin, tmp_path, {"experiment": "given"}, project="mine", **environ)["experiment"] == "given"
    assert resolve(plugin, tmp_path, {}, MLFLOW_EXPERIMENT_ID="7")["experiment_id"] == "7"


@pytest.mark.usefixtures("no_mlflow")
@pytest.mark.parametrize(
    ("uri", "absolute"),
    [
        ("sqlite:///runs/a.db", "sqlite:///{cwd}/runs/a.db"),
        ("sqlite:////data/a.db", "sqlite:////data/a.db"),
        ("file:runs", "file://{cwd}/runs"),
        ("file:./runs", "file://{cwd}/runs"),
        ("./runs", "file://{cwd}/runs"),
        ("file:///data/runs", "file:///data/runs"),
        ("https://host/mlflow", "https://host/mlflow"),
        ("databricks", "databricks"),
        ("databricks://profile", "databricks://profile"),
        ("azureml://eastus.api", "azureml://eastus.api"),
        ("postgresql://u:p@host/db", "postgresql://u:p@host/db"),
    ],
)
def test_uris_mean_the_same_elsewhere(plugin: SinkPlugin, tmp_path: Path, uri: str, absolute: str) -> None:
    assert resolve(plugin, tmp_path, {"tracking_uri": uri})["tracking_uri"] == absolute.format(cwd=tmp_path)


@pytest.mark.usefixtures("no_mlflow")
def test_a_run_named_by_the_environment_is_adopted(plugin: SinkPlugin, tmp_path: Path) -> None:
    resolved = resolve(plugin, tmp_path, {"experiment": "x"}, MLFLOW_RUN_ID="abc")
    assert resolved["run_id"] == "abc"
    assert "experiment" not in resolved
    assert "abc" in resolved["notices"][0]
    # A child of a run is a new run, and so is one at another store than the environment's.
    assert "run_id" not in resolve(plugin, tmp_path, {"parent_run_id": "abc"}, MLFLOW_RUN_ID="abc")
    elsewhere = {"MLFLOW_RUN_ID": "abc", "MLFLOW_TRACKING_URI": "http://a"}
    assert "run_id" not in resolve(plugin, tmp_path, {"tracking_uri": "http://b"}, **elsewhere)


@pytest.fixture
def active_run(sqlite_uri: str) -> Iterator[Any]:
    import mlflow

    mlflow.set_tracking_uri(sqlite_uri)
    try:
        with mlflow.start_run() as run:
            yield run
    finally:
        mlflow.set_tracking_uri(None)  # what is set here would go before every other test's environment


def test_the_users_own_mlflow_is_followed(plugin: SinkPlugin, tmp_path: Path, active_run: Any, sqlite_uri: str) -> None:
    resolved = resolve(plugin, tmp_path, {})
    assert resolved["tracking_uri"] == sqlite_uri
    assert resolved["run_id"] == active_run.info.run_id
    assert "run_id" not in resolve(plugin, tmp_path, {"tracking_uri": "http://elsewhere"})


@pytest.mark.usefixtures("no_mlflow")
def test_destinations_tell_remote_runs_apart_and_keep_secrets(plugin: SinkPlugin, tmp_path: Path) -> None:
    def destination(options: dict[str, Any]) -> str | None:
        return plugin.destination(resolve(plugin, tmp_path, options))

    secret = {"tracking_uri": "http://user:pass@host:5000/", "experiment": "x"}
    assert destination(secret) == destination({"tracking_uri": "http://host:5000", "experiment": "x"})
    assert "pass" not in str(destination(secret))
    assert destination(secret) != destination({**secret, "experiment": "y"})


@pytest.mark.usefixtures("no_mlflow")
def test_look_commands(plugin: SinkPlugin, tmp_path: Path) -> None:
    local = resolve(plugin, tmp_path / "my runs", {})
    command = f"mlflow ui --backend-store-uri 'sqlite:///{tmp_path}/my runs/mlflow.db'"
    assert plugin.look_command(local, {"url": "x"}) == command
    assert plugin.look_command({"tracking_uri": "http://h"}, {"url": "http://h/#/x"}) == "http://h/#/x"


def test_tags_that_are_neither_a_list_nor_a_mapping_are_told() -> None:
    (problem,) = load("mlflow").check_options({"tags": 5})
    assert problem.startswith("mlflow.tags: 5 is neither")
