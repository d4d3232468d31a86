"""Rules of the house that no linter keeps."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from rl_logging import plugins
from tests.docs.blocks import ROOT

SDKS = ("mlflow", "wandb", "torch", "skrl", "stable_baselines3", "gymnasium")
PACKAGES = [*(ROOT / "rl_logging").rglob("__init__.py"), *(ROOT / "backends").rglob("__init__.py")]


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_public_names_are_sorted(path: Path):
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            names = ast.literal_eval(node.value)
            assert names == sorted(set(names), key=rank)


def rank(name: str) -> tuple[bool, bool, str]:
    """Orders as ruff does: constants, classes, the rest."""
    return not name.isupper(), not name[0].isupper(), name


def test_our_plugins_are_installed():
    assert {"mlflow", "wandb"} <= set(plugins.installed())


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_plugin_imports_no_sdk_when_it_is_loaded_and_asked(name: str, tmp_path: Path):
    code = f"""
import json, os, sys
from pathlib import Path
from rl_logging import plugins
from rl_logging.hookspecs import Surroundings
plugin = plugins.load({name!r})
plugin.check_options({{}})
surroundings = Surroundings(project="p", cwd=Path.cwd(), environ=dict(os.environ))
plugin.destination(plugin.resolve_options({{}}, surroundings))
print(json.dumps([module for module in {SDKS!r} if module in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_the_package_itself_imports_nothing_heavy(tmp_path: Path):
    heavy = (*SDKS, "numpy", "PIL", "rich")
    code = f"import json, sys, rl_logging; print(json.dumps([m for m in {heavy!r} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
