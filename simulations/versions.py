"""``--version``, of every command line of this app."""

from __future__ import annotations

from typing import Annotated

import typer


def show_versions(asked: bool) -> None:
    """Print which versions run here, and end."""
    if asked:
        import importlib.metadata
        import platform

        named = [f"{one} {importlib.metadata.version(one)}" for one in ("asclepias", "flwr", "ray")]
        typer.echo(", ".join([*named, f"Python {platform.python_version()}"]))
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=show_versions, is_eager=True, help="Show versions.")
]
