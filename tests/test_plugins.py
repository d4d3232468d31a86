"""Finding installed sinks: all packages are looked through once, and again for one that is not there."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from rl_logging import plugins


def test_installed_packages_are_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, look = [], plugins.entry_points

    def counted(**group: Any) -> Any:
        looks.append(group)
        return look(**group)

    monkeypatch.setattr(plugins, "entry_points", counted)
    plugins._found_on.cache_clear()
    for name in ("mlflow", "wandb", "mlflow"):
        plugins.load(name)
    assert looks == [{"group": "rl_logging.sinks"}]
    plugins.installed().clear()
    assert "mlflow" in plugins.installed()


def test_a_sink_that_is_installed_meanwhile_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(plugins.PluginError, match="no sink is called 'later'"):
        plugins.load("later")
    (tmp_path / "later_sink.py").touch()
    folder = tmp_path / "later-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: later\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[rl_logging.sinks]\nlater = later_sink\n")
    importlib.invalidate_caches()
    assert plugins.load("later").name == "later"
