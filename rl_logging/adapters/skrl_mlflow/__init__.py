"""What stands behind `rl_logging.adapters.skrl_mlflow_agent`: reading an agent, and where its metrics go."""

from __future__ import annotations
