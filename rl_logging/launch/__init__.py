"""Starting and ending whoever delivers a run: a child process, threads of this one, or nobody."""

from __future__ import annotations

from rl_logging.launch.launcher import Delivery

__all__ = ["Delivery"]
