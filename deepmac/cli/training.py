"""Commands that train, measure and reproduce."""

import sys
from pathlib import Path

import click

from deepmac.cli import options
from deepmac.core.errors import InputError


@click.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def train(flags):
    """Train or evaluate with Model Garden's flags, as `python -m deepmac.train`."""
    import subprocess

    sys.exit(subprocess.run([sys.executable, "-m", "deepmac.train", *flags], check=False).returncode)


@click.command()
@click.argument("annotations", type=click.Path())
@click.option("--images", type=click.Path(), metavar="DIR", help="Their pictures; unless in ANNOTATIONS.")
@click.option("--out", required=True, type=click.Path(), metavar="MODEL", help="Folder for the model.")
@click.option(
    "--masks-of", metavar="NAME,...", help="Classes whose masks are used.  [default: all with masks]"
)
@click.option("--val", type=click.Path(), metavar="ANNOTATIONS", help="Annotations to validate with.")
@click.option(
    "--val-fraction",
    type=click.FloatRange(0, 0.9, min_open=True),
    default=0.2,
    help="Or the part of ANNOTATIONS to draw for it.",
)
@click.option(
    "--steps", type=click.IntRange(min=1), help="Of training.  [default: by the number of pictures]"
)
@click.option(
    "--mask-head",
    metavar="NAME",
    help="Begin with a new mask head: resnet4, hourglass52, ...  [default: the model's goes on]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    help="Of new weights and of the order of pictures.",
)
@options.model
def finetune(annotations, images, out, masks_of, val, val_fraction, **choices):
    """Train a model on your own data set: boxes for all classes, masks for some.

    ANNOTATIONS is JSON as COCO's, of any categories, or without --images a folder as an annotation tool
    exports it, with its pictures. The model in the end finds objects of all categories, and makes masks also
    of those that had none. Pictures of a sequence (or a folder) are not split; started
    again, an interrupted training goes on. MODEL gets the best checkpoint, report.txt (masks beside those of
    the model it started from, and of the ellipse in each box), contact_sheet.png, and params.yaml, to go on
    with `python -m deepmac.train`.
    """
    from deepmac.training.finetune import OwnData, Recipe, finetune

    if not images and not Path(annotations).exists():
        raise InputError(f"{annotations}: no such file or folder")
    if not images and not Path(annotations).is_dir():
        raise click.UsageError("Give the folder of the pictures by --images.")
    if not images and val:
        raise click.UsageError("A folder without --images has what to validate with: leave out --val.")
    names = tuple(name.strip() for name in (masks_of or "").split(",") if name.strip())
    data = OwnData(annotations, images, names, val, val_fraction)
    click.echo(finetune(data, out, Recipe(**choices), click.echo), nl=False)
    click.echo(f"Wrote {out}; look at {Path(out) / 'contact_sheet.png'}")


@click.command()
@click.option("--model", required=True, help="Name or folder of one that finds objects, as finetune's.")
@click.option("--coco-dir", type=click.Path(), help="Folder in the layout of COCO or an annotation tool.")
@click.option("--split", help="Of --coco-dir.  [default: val2017]")
@click.option("--annotations", type=click.Path(), metavar="FILE", help="Or: as for `deepmac tfrecord`.")
@click.option("--images", type=click.Path(), metavar="DIR", help="Their pictures.")
@click.option(
    "--seen",
    help="Classes counted as seen: all, voc or non_voc of COCO's, or names with commas between.  "
    "[default: those the model was trained with masks of]",
)
@options.ids
@click.option("--out", type=click.Path(), help="Folder for evaluation.json with every figure.")
def evaluate(model, coco_dir, split, annotations, images, seen, ids, out):
    """Measure COCO mask and box AP on seen and unseen classes.

    From detections, and from ground-truth boxes, which leaves only the masks to be wrong. Either --coco-dir,
    or --annotations with --images; classes of the same name are the same.
    """
    from deepmac.core.categories import CLASS_SETS, NAME_BY_ID
    from deepmac.inference.find import find_model

    if not find_model(model).detects:
        raise InputError(f"{model} finds no objects: name a model of `deepmac finetune` by --model")
    splits = [split or "val2017"] if split or coco_dir else []
    [data] = options.read_data(coco_dir, annotations, images, splits, ids).values()
    names = (
        {NAME_BY_ID[number] for number in CLASS_SETS[seen]}
        if seen in CLASS_SETS
        else seen and seen.split(",")
    )
    from deepmac.evaluation.files import write_evaluation  # TensorFlow starts only if the input is good
    from deepmac.inference.evaluate import evaluate_model, summary

    evaluators = evaluate_model(model, data, names)
    if out:
        write_evaluation(evaluators, Path(out))
    if data.repairs:
        click.echo(data, err=True)
    click.echo(summary(evaluators))


@click.command()
@click.option("--model", required=True, help="A folder that training wrote.")
@options.coco_dir
@click.option("--split", default="test-dev2017", help="Pictures, with or without annotations.")
@click.option("--name", default="deepmac", help="Of the method, for the file's name.")
@click.option("--out", required=True, type=click.Path(), help="Folder for the ZIP.")
def submission(model, coco_dir, split, name, out):
    """Write detections with masks for COCO's evaluation server.

    The ZIP is as the server demands it; where to upload it: cocodataset.org/#upload.
    """
    from deepmac.jobs.submission import write_submission

    click.echo(f"Wrote {write_submission(model, coco_dir, out, split, name)}")


@click.command()
@click.option("--profile", default="quick", help="smoke, quick, mini, styles, subset, photographs or paper.")
@click.option("--only", multiple=True, metavar="NOTEBOOK", help="Run this notebook only (repeatable).")
@click.option("--work-dir", default="runs", help="Data sets and training runs; reused when there.")
@click.option("--out", help="Executed notebooks, results, report.  [default: papermill_runs/PROFILE]")
@click.option("--jobs", type=click.IntRange(min=1), help="Rows to train at once.  [default: one a core]")
@options.scheduler
def reproduce(profile, only, work_dir, out, jobs, scheduler):
    """Regenerate the published tables and figures with papermill.

    Rows whose results for the same configuration are in the output folder are not trained again: to train
    everything anew, give another --out and --work-dir. Workers of --scheduler need this package, and the
    checkout and the folders on a file system that all machines share, under the same paths.
    """
    from deepmac.suite import run as suite_run

    runs = suite_run.reproduce(profile, only, ".", work_dir, out, jobs, scheduler)
    for run in runs:
        click.echo(f"{run.notebook}: {run.error or 'done'} ({run.seconds:.0f} s) -> {run.output}")
    click.echo(f"report: {runs[0].output.with_name('report.html')}")
    if any(run.error for run in runs):
        sys.exit(1)
