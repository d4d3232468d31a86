"""What is installed of W&B's SDK, found out without importing it."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
from pathlib import Path


def installed() -> str | None:
    """Returns the SDK's version, None where it is not installed."""
    # Not `find_spec`: W&B leaves folders called "wandb" in working directories, which it takes for the package.
    try:
        return importlib.metadata.version("wandb")
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def settings_fields() -> frozenset[str]:
    """Returns the fields of ``wandb.Settings``, read from its source; empty where that is not found."""
    try:
        source = Path(str(importlib.metadata.distribution("wandb").locate_file("wandb/sdk/wandb_settings.py")))
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except (importlib.metadata.PackageNotFoundError, OSError, SyntaxError, UnicodeDecodeError):
        return frozenset()
    bodies = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    return frozenset(
        statement.target.id
        for body in bodies
        for statement in body
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and not statement.target.id.startswith("_")
        and "ClassVar" not in ast.unparse(statement.annotation)
    )
