"""Commands that train, measure and reproduce."""

import sys
from pathlib import Path

import click

from deepmac.cli import options


@click.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def train(flags):
    """Train or evaluate with Model Garden's flags, as `python -m deepmac.train`."""
    import subprocess

    sys.exit(subprocess.run([sys.executable, "-m", "deepmac.train", *flags], check=False).returncode)


@click.command()
@click.option("--model", default="mini", help="mini, or a folder that training wrote.")
@options.coco_dir
@click.option("--split", default="val2017", help="Pictures to evaluate.")
@click.option(
    "--seen",
    type=click.Choice(["all", "voc", "non_voc"]),
    help="Classes counted as seen.  [default: those the model was trained with masks of]",
)
@options.ids
@click.option("--out", type=click.Path(), help="Folder for evaluation.json with every figure.")
def evaluate(model, coco_dir, split, seen, ids, out):
    """Measure COCO mask and box AP on seen and unseen classes.

    From detections, and from ground-truth boxes, which leaves only the masks to be wrong.
    """
    from deepmac.core.categories import CLASS_SETS
    from deepmac.data.coco import read_image_ids
    from deepmac.evaluation.files import write_evaluation
    from deepmac.jobs.evaluate import evaluate_model, summary

    image_ids = read_image_ids(ids) if ids else None
    image_ids = image_ids.get(split) if isinstance(image_ids, dict) else image_ids
    evaluators = evaluate_model(model, coco_dir, split, CLASS_SETS.get(seen), image_ids)
    if out:
        write_evaluation(evaluators, Path(out))
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
@click.option("--profile", default="quick", help="smoke, quick, mini, subset or paper.")
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
