"""The `deepmac` command. Each command imports what it needs, so that `--help` is instant."""

import sys

import click

from deepmac import __version__
from deepmac.errors import InputError


class _Group(click.Group):
    """Turns errors of the input into one line and exit status 2, for every command."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except (InputError, FileNotFoundError, FileExistsError, PermissionError) as error:
            click.echo(f"deepmac: {_one_line(error)}", err=True)
            sys.exit(2)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}"
    return " ".join(str(error).split())


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main():
    """DeepMAC: masks for objects of classes nobody drew masks for."""
