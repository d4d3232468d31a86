"""Delivery: a worker per destination takes records from the journal to the sink, each at its own pace."""

from __future__ import annotations

from rl_logging.delivery.host import BundleDelivery
from rl_logging.delivery.worker import DestinationWorker

__all__ = ["BundleDelivery", "DestinationWorker"]
