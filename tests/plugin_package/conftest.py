"""Keeps these tests out of a run in which the package is not installed."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("rl_logging_jsonl") else ["*"]
