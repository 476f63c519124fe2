"""`understudy version`."""

import platform
from importlib.metadata import version as installed

import click

from understudy.components.apiserver.version import GIT_VERSION


@click.command()
def version() -> None:
    """Print the versions of Understudy and of the Kubernetes that it plays."""
    click.echo(f"understudy {installed('understudy')}")
    click.echo(f"Kubernetes {GIT_VERSION}")
    click.echo(f"Python     {platform.python_version()} on {platform.system()} {platform.machine()}")
