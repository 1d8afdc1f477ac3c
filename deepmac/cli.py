"""The `deepmac` command. Each command imports what it needs, so that `--help` is instant."""

import os
import sys
from pathlib import Path

import click

from deepmac import __version__
from deepmac.cli_errors import ErrorReportingGroup


@click.group("deepmac", cls=ErrorReportingGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main():
    """DeepMAC: masks for objects of classes nobody drew masks for."""
    # TensorFlow's start-up messages are noise, except where they say why a GPU is not used.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1" if Path("/dev/nvidia0").exists() else "3")
