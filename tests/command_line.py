"""Runs the command `deepmac` in this process."""

from click.testing import CliRunner, Result

from deepmac.cli import main


def run(*arguments, status: int = 0) -> Result:
    """Runs the command, which must end with `status`; errors that are a bug are raised."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result


def refused(*arguments) -> str:
    """The one line that the command prints, and nothing else, about wrong arguments or files."""
    result = run(*arguments, status=2)
    assert not result.stdout
    assert result.stderr.startswith("deepmac: ") and result.stderr.count("\n") == 1
    return result.stderr
