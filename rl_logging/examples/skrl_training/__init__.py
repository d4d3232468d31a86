"""Trains a task with skrl and logs it to MLflow, as the physical-AI toolchain's ``skrl_training.py`` does.

Run it as ``python -m rl_logging.examples.skrl_training --task CartPole-v1``. Gymnasium's tasks need what ``pip install
'rl-logging[all]'`` brings; Isaac Lab's (``Isaac-...``) need Isaac Lab.
"""

from __future__ import annotations
