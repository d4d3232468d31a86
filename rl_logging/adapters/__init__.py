"""Adapters: each hooks one framework and imports it; nothing else does, so this package imports none of them."""

from __future__ import annotations
