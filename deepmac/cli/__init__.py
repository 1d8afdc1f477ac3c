"""The `deepmac` command. Each command imports what it needs, so that `--help` is instant."""

import click

from deepmac.cli import data, models, pictures, training
from deepmac.cli.errors import ErrorReportingGroup


@click.group(
    "deepmac",
    cls=ErrorReportingGroup,
    commands=[
        pictures.segment,
        pictures.annotate,
        pictures.iwildcam_masks,
        data.tfrecord,
        data.scenes,
        data.cutouts,
        training.finetune,
        training.train,
        training.evaluate,
        training.submission,
        training.reproduce,
        models.import_config,
        models.import_checkpoint,
        models.export,
    ],
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(package_name="deepmac")
def main():
    """DeepMAC: masks for objects of classes nobody drew masks for."""
