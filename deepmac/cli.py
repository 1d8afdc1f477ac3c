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


@main.command("import-config")
@click.argument("pipeline_config", type=click.Path())
@click.option("--out", type=click.Path(), help="YAML file to write.  [default: standard output]")
def import_config(pipeline_config, out):
    """Convert a published pipeline.config to a YAML for `python -m deepmac.train --config_file`.

    The YAML goes on top of --experiment=deepmac_hourglass_coco. Fields that are unknown or not supported are
    errors; those without effect here are listed.
    """
    from deepmac.atomic import atomic_file
    from deepmac.pipeline_config import read_pipeline

    pipeline = read_pipeline(pipeline_config)
    for field in pipeline.ignored:
        click.echo(f"without effect: {field}", err=True)
    if out is None:
        click.echo(pipeline.to_yaml(), nl=False)
        return
    with atomic_file(out) as path:
        path.write_text(pipeline.to_yaml(), encoding="utf-8")
    click.echo(f"Wrote {out}")
