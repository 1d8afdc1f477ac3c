"""Options that several commands share."""

import functools
import sys

import click

from deepmac.core.machine import PRECISIONS, RUNTIMES

model = click.option("--model", default="mini", help="As for deepmac.load: a name or a folder.")
precision = click.option(
    "--precision",
    default="auto",
    type=click.Choice(PRECISIONS),
    help="What to compute with; auto chooses by the hardware.",
)
runtime = click.option(
    "--runtime",
    default="auto",
    type=click.Choice(RUNTIMES),
    help="What computes; auto takes ONNX Runtime where the model has ONNX files.",
)
input_size = click.option(
    "--input-size", type=click.IntRange(min=1), help="Side of the input in pixels.  [default: as trained]"
)
new_folder = click.option("--out", required=True, type=click.Path(), help="Folder to write; new or empty.")
coco_dir = click.option("--coco-dir", required=True, type=click.Path(), help="Folder in COCO layout.")
ids = click.option("--ids", type=click.Path(), help="Image ids to use: text or JSON list.")
scheduler = click.option(
    "--scheduler", metavar="tcp://HOST:PORT", help="Dask scheduler whose workers do the work."
)


def makes_masks(command):
    """Options of what makes masks, and of what computes them; the command gets a `ModelChoice` as `model`.

    A terminal is told at once that the command works: its imports may take longer than one waits.
    """

    @functools.wraps(command)
    def run(model, precision, runtime, input_size, **arguments):
        if sys.stderr.isatty():
            click.echo("Starting ...", err=True)
        from deepmac.jobs.stream import ModelChoice

        command(model=ModelChoice(model, precision, input_size, runtime), **arguments)

    return model(precision(runtime(input_size(run))))


def read_data(coco_dir, annotations, images, splits, ids, *validation) -> dict:
    """The splits of a folder, or of annotations and their pictures: commands take one or the other."""
    from deepmac.data.data_sets import read_annotation_files, read_coco_folder, read_image_ids

    if bool(coco_dir) == bool(annotations) or bool(annotations) != bool(images) or (annotations and splits):
        raise click.UsageError(
            "Give either --coco-dir, with --split, or --annotations FILE and --images DIR."
        )
    chosen = read_image_ids(ids) if ids else None
    if coco_dir:
        return read_coco_folder(coco_dir, splits, chosen)
    return read_annotation_files(annotations, images, *validation, ids=chosen)
