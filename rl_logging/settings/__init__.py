"""The settings: what a program asks for, checked before any training is spent."""

from __future__ import annotations

from rl_logging.settings.loading import load
from rl_logging.settings.sections import SettingsError
from rl_logging.settings.typed import Loaded, Settings, as_dict

__all__ = ["Loaded", "Settings", "SettingsError", "as_dict", "load"]
