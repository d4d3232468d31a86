"""Small real trainings that log, each to be run with ``python -m`` and to be copied.

`sb3_ppo`, `skrl_ppo`, `cleanrl_ppo` and `custom_loop` need what ``pip install 'rl-logging[all]'`` brings. `demo` is
what ``rl-logging demo`` runs.
"""

from __future__ import annotations
