"""The command line: `understudy up`, `version`, `trace`, ...

Commands are imported when they are called, so that `--help` and `up` start fast. A user's mistake is one
line and exit code 2, never a traceback.
"""

import importlib
from importlib.util import find_spec
from typing import Any

import click

COMMANDS = {
    "up": "Start a cluster and keep it running until Ctrl-C.",
    "etcd": "Serve the etcd v3 API until Ctrl-C.",
    "actors": "Show the actors of a running system as a tree that refreshes.",
    "store": "Look at the folder of a store that does not run; repair it; restore a snapshot.",
    "trace": "Run a manifest on a fresh cluster and print who did what, in order.",
    "version": "Print the versions of Understudy and of the Kubernetes that it plays.",
}
"""Name of each command, which is also its module's, and its line in `--help`."""


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if find_spec(f"{__name__}.{name}") is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
def understudy() -> None:
    """A Kubernetes made of Trio actors that stands in for the real one."""


def run(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    try:
        result: Any = understudy.main(arguments, prog_name="understudy", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else error.message)
        return 0
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        path = context.command_path if context is not None else "understudy"
        return complain(error.format_message(), f"{path} --help shows what there is")
    except click.Abort:
        return 130
    return result if isinstance(result, int) else 0


def complain(message: str, hint: str = "") -> int:
    """Print a user's mistake as one line; returns the exit code that says so."""
    line = " ".join(f"understudy: {message.rstrip('.')}{f' ({hint})' if hint else ''}".split())
    click.echo(line, err=True)
    return 2
