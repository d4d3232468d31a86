"""Logging what skrl trains: single agents and multi-agents of skrl 1.4.3 and 2.x."""

from __future__ import annotations

from rl_logging.adapters.skrl.attachment import Handle, attach

__all__ = ["Handle", "attach"]
