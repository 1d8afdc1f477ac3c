"""What errors become on the command line: one line that says what to do, and exit status 2."""

import io
import re
import sys
from typing import NoReturn

import click

from deepmac.core.errors import InputError, missing_package


class ErrorReportingGroup(click.Group):
    """A click group that reports errors as this module says, for every command in it."""

    def parse_args(self, ctx, args):
        if any(re.fullmatch(r"(--[\w-]+=)?", arg) for arg in args):  # a path would be the current folder
            raise click.UsageError("An argument is empty; is a variable of the shell unset?", ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx):
        super().invoke(ctx)  # what a command returns is no exit status, so nothing is returned

    def main(self, *args, **kwargs) -> NoReturn:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # names of files may hold what a terminal cannot write
                stream.reconfigure(errors="backslashreplace")
        kwargs["standalone_mode"] = False  # click raises its errors instead of printing several lines
        try:
            sys.exit(super().main(*args, **kwargs))
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(2)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "deepmac"
            fail(f"{error.format_message()} See `{command} --help`.")
        except click.ClickException as error:
            fail(error.format_message())
        except click.Abort:
            click.echo("deepmac: stopped; the same command begins again, or goes on where it can", err=True)
            sys.exit(130)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError):
                error = missing_package(error)
            is_full = "No space left on device" in str(error)  # also in errors of TensorFlow's own
            if not is_full and not isinstance(error, (InputError, OSError)):  # no such file, no permission
                raise
            fail(_describe(error) + ("; free some, and run the same command again" if is_full else ""))


def fail(message: str) -> NoReturn:
    """Ends the program with a line, and exit status 2."""
    click.echo(f"deepmac: {' '.join(message.split())}", err=True)
    sys.exit(2)


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
