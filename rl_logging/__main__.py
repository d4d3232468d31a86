"""``python -m rl_logging`` is ``rl-logging``."""

from __future__ import annotations

from rl_logging.cli import main

if __name__ == "__main__":
    main(prog_name="rl-logging")
