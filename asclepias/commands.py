"""The console commands: `asclepias` for a deployment, `flower-simulation` for a laptop."""

from __future__ import annotations


def asclepias() -> int:
    """Run the command of a deployment and return the exit code."""
    from deployment.cli import main

    return main()


def flower_simulation() -> int:
    """Run the command of simulations and return the exit code."""
    from simulations.cli import main

    return main()
