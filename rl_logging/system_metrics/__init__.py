"""Figures of the machine a run trains on: processor, memory, disk and NVIDIA GPUs, sampled beside the training."""

from __future__ import annotations

from rl_logging.system_metrics.gpus import Gpus
from rl_logging.system_metrics.machine import Machine
from rl_logging.system_metrics.sampling import Sampling

__all__ = ["Gpus", "Machine", "Sampling"]
