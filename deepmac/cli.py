"""The `deepmac` command. Each command imports what it needs, so that `--help` is instant."""

import importlib.metadata
import re
import sys
from pathlib import Path
from typing import NoReturn

import click

from deepmac import __version__
from deepmac.core.errors import InputError
from deepmac.core.machine import PRECISIONS


class ErrorReportingGroup(click.Group):
    """A click group that reports errors as this module says, for every command in it."""

    def invoke(self, ctx):
        super().invoke(ctx)  # what a command returns is no exit status, so nothing is returned

    def main(self, *args, **kwargs) -> NoReturn:
        kwargs["standalone_mode"] = False  # click raises its errors instead of printing several lines
        try:
            sys.exit(super().main(*args, **kwargs))
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(2)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "deepmac"
            _fail(f"{error.format_message()} See `{command} --help`.")
        except click.ClickException as error:
            _fail(error.format_message())
        except click.Abort:
            sys.exit(130)
        except ModuleNotFoundError as error:
            extra = _extra_that_brings(error.name or "")
            if extra is None:
                raise
            _fail(f"this command needs the package {error.name}: run pip install 'deepmac[{extra}]'")
        except (InputError, OSError) as error:  # no such file, no permission, no room on the disk
            _fail(_describe(error))


def _fail(message: str) -> NoReturn:
    click.echo(f"deepmac: {' '.join(message.split())}", err=True)
    sys.exit(2)


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _extra_that_brings(module: str) -> str | None:
    """The optional part of this package that installs a module, None when it is in none of them."""
    for requirement in importlib.metadata.requires("deepmac") or ():
        optional = re.match(r"([\w.-]+).*extra == ['\"](\w+)['\"]", requirement)
        if optional and optional[1].replace("-", "_") == module.partition(".")[0]:
            return optional[2]
    return None


# Options that several commands share.
_model = click.option("--model", default="mini", help="As for deepmac.load: a name or a folder.")
_precision = click.option(
    "--precision",
    default="auto",
    type=click.Choice(PRECISIONS),
    help="What to compute with; auto chooses by the hardware.",
)
_input_size = click.option(
    "--input-size", type=int, help="Side of the network input in pixels.  [default: as trained]"
)
_new_folder = click.option("--out", required=True, type=click.Path(), help="Folder to write; new or empty.")
_coco_dir = click.option("--coco-dir", required=True, type=click.Path(), help="Folder in COCO layout.")
_ids = click.option("--ids", type=click.Path(), help="Image ids to use: text or JSON list.")
_scheduler = click.option(
    "--scheduler", metavar="tcp://HOST:PORT", help="Dask scheduler whose workers do the work."
)


@click.group(
    "deepmac",
    cls=ErrorReportingGroup,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(__version__)
def main():
    """DeepMAC: masks for objects of classes nobody drew masks for."""


@main.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--box", "box_texts", multiple=True, metavar="Y0,X0,Y1,X1", help="A box (repeatable).")
@click.option("--boxes", "box_file", type=click.Path(), metavar="FILE", help="Boxes: JSON or CSV.")
@click.option(
    "--box-format",
    default="yxyx_norm",
    type=click.Choice(["yxyx_norm", "xyxy", "xywh"]),
    help="Of --box and CSV: Y0,X0,Y1,X1 from 0 to 1; in pixels X0,Y0,X1,Y1 or X,Y,WIDTH,HEIGHT.",
)
@click.option("--min-score", default=0.0, help="Leave out boxes of lower score.")
@_model
@_precision
@click.option("--out", required=True, type=click.Path(), help="Folder for the results.")
@click.option("--overwrite", is_flag=True, help="Make results again that exist.")
def segment(images, box_texts, box_file, box_format, min_score, model, precision, out, overwrite):
    """Predict the mask of the object in each box of pictures.

    IMAGE is a file, a folder (with its subfolders) or a pattern such as 'photos/**/*.jpg'. For each picture
    NAME this writes NAME_masks.json (COCO results with run-length encoded masks), NAME_labels.png (0 is
    background, i + 1 the mask of box i) and NAME_overlay.png; for pictures of subfolders, into subfolders.
    Run again, it goes on where it stopped: results of the same picture, boxes and model are kept.

    FILE is COCO results (a list with image_id or file_name, and bbox), COCO annotations, MegaDetector's batch
    output, or a .csv with a header: image, then ymin,xmin,ymax,xmax (for xywh: xmin,ymin,width,height), and
    as you like category_id and score.

    Exit status: 0, also if some pictures were skipped because they are unreadable or their boxes unusable
    (they are listed at the end); 2 if all were, or if the input is wrong.
    """
    from deepmac.jobs.box_files import boxes_from_texts, read_boxes
    from deepmac.jobs.pictures import find_pictures
    from deepmac.jobs.segment import segment
    from deepmac.jobs.stream import ModelChoice

    if bool(box_texts) == bool(box_file):
        raise click.UsageError("Give either --box or --boxes FILE.")
    if box_texts:
        boxes = boxes_from_texts(box_texts, box_format)
    else:
        boxes = read_boxes(box_file, box_format, min_score)
    choice = ModelChoice(model, precision)
    summary = segment(find_pictures(images, Path(out)), boxes, Path(out), choice, overwrite)
    for line in summary.problems():
        click.echo(line, err=True)
    click.echo(summary)


@main.command()
@_new_folder
@click.option("--images", required=True, type=int, help="Number of training images.")
@click.option("--val-images", type=int, help="Number of validation images.  [default: a fifth of --images]")
@click.option("--size", default=128, help="Side of the square images in pixels.")
@click.option("--seed", default=0, help="Same seed, same images.")
@click.option("--jobs", type=int, help="Processes.  [default: one for each core]")
@click.option("--sprites", type=click.Path(), help="Own RGBA cut-outs to add: CLASS NAME/PICTURE.png")
def scenes(out, images, val_images, size, seed, jobs, sprites):
    """Compose images with instance masks from emoji artwork, as a COCO folder."""
    from deepmac.scenes.dataset import compose_scenes

    folder = compose_scenes(out, images, val_images, size=size, seed=seed, jobs=jobs, sprites=sprites)
    click.echo(f"Wrote {folder}; look at {folder / 'contact_sheet.png'}")


@main.command()
@_coco_dir
@_new_folder
@click.option("--split", default="train2017", help="Pictures to cut from.")
@_ids
def cutouts(coco_dir, out, split, ids):
    """Cut annotated objects out of photographs, for `deepmac scenes --sprites`."""
    from deepmac.data.coco import read_image_ids
    from deepmac.scenes.cutouts import write_cutouts

    count = write_cutouts(coco_dir, out, split, read_image_ids(ids) if ids else None)
    click.echo(f"Wrote {count} cut-outs to {out}")


@main.command()
@click.option("--coco-dir", type=click.Path(), help="Folder in COCO layout.")
@click.option("--annotations", type=click.Path(), metavar="FILE", help="Or: annotations, JSON as COCO's.")
@click.option("--images", type=click.Path(), metavar="DIR", help="Their pictures.")
@click.option("--val-annotations", type=click.Path(), metavar="FILE", help="Annotations to validate with.")
@click.option("--val-fraction", type=click.FloatRange(0, 0.9), default=0.0, help="Or part of the pictures.")
@_new_folder
@click.option("--split", "splits", multiple=True, default=("train2017", "val2017"), help="Repeatable.")
@click.option("--shards", type=click.IntRange(min=1), help="Files per split.  [default: by its size]")
@click.option("--ids", type=click.Path(), help="Image ids to use: text, JSON list, or JSON {split: list}.")
def tfrecord(coco_dir, annotations, images, val_annotations, val_fraction, out, splits, shards, ids):
    """Check annotations and write them with their pictures as TFRecords.

    Either --coco-dir, or --annotations with --images, which become the splits train and val. Categories are
    those of the files; boxes without a mask stay, to teach the detector.
    """
    from deepmac.core.files import refuse_occupied
    from deepmac.data.coco import read_annotation_files, read_coco_folder, read_image_ids

    if bool(coco_dir) == bool(annotations) or bool(annotations) != bool(images):
        raise click.UsageError("Give either --coco-dir, or --annotations FILE and --images DIR.")
    refuse_occupied(out)
    if annotations:
        read = read_annotation_files(annotations, images, val_annotations, val_fraction)
    else:
        read = read_coco_folder(coco_dir, splits, read_image_ids(ids) if ids else None)
    from deepmac.data.tfrecords import write_tfrecords  # TensorFlow starts only if the input is good

    write_tfrecords(read, out, shards)
    for data in read.values():
        click.echo(data)
    click.echo(f"Wrote {', '.join(read)} to {out}")


@main.command()
@click.option("--profile", default="quick", help="smoke, quick, mini, subset or paper.")
@click.option("--only", multiple=True, metavar="NOTEBOOK", help="Run this notebook only (repeatable).")
@click.option("--work-dir", default="runs", help="Data sets and training runs; reused when there.")
@click.option("--out", help="Executed notebooks, results, report.  [default: papermill_runs/PROFILE]")
@click.option("--jobs", type=click.IntRange(min=1), help="Rows to train at once.  [default: one a core]")
@_scheduler
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


@main.command("import-config")
@click.argument("pipeline_config", type=click.Path())
@click.option("--out", type=click.Path(), help="YAML file to write.  [default: standard output]")
def import_config(pipeline_config, out):
    """Convert a published pipeline.config to a YAML for `python -m deepmac.train --config_file`.

    The YAML goes on top of --experiment=deepmac_hourglass_coco. Fields that are unknown or not supported are
    errors; those without effect here are listed.
    """
    from deepmac.core.files import atomic_file
    from deepmac.interop.pipeline import read_pipeline

    pipeline = read_pipeline(pipeline_config)
    for field in pipeline.ignored:
        click.echo(f"without effect: {field}", err=True)
    if out is None:
        click.echo(pipeline.to_yaml(), nl=False)
        return
    with atomic_file(out) as path:
        path.write_text(pipeline.to_yaml(), encoding="utf-8")
    click.echo(f"Wrote {out}")


@main.command("import-checkpoint")
@click.argument("source")
@click.option("--out", "model_dir", required=True, type=click.Path(), help="Model directory; new or empty.")
@click.option(
    "--config-file",
    "config_files",
    multiple=True,
    type=click.Path(),
    help="YAML of the model to fill instead of the folder's pipeline.config (repeatable).",
)
@click.option("--params-override", help="Further overrides, as task.model.num_classes=5,...")
@click.option("--experiment", default="deepmac_hourglass_coco", help="Base of --config-file.")
def import_checkpoint(source, model_dir, config_files, params_override, experiment):
    """Write a published checkpoint as a model directory, to load, to evaluate, or to train on.

    SOURCE is a folder with pipeline.config and checkpoint/, or the name of a published model, such as
    deepmac_1024x1024_coco17, which is downloaded. All of it must fit the model. With --config-file or
    --params-override the model may differ, in its number of classes or its mask head: what fits is restored.
    """
    from deepmac.inference.find import PUBLISHED_MODELS, published_model
    from deepmac.interop import published

    folder = published_model(source) if source in PUBLISHED_MODELS and not Path(source).exists() else source
    config = published.target_config(folder, experiment, config_files, params_override)
    partial = bool(config_files or params_override)
    report = published.import_checkpoint(folder, config, model_dir, partial)
    click.echo(report.summary())
    click.echo(f"Wrote {model_dir}; {published.REPORT_NAME} there lists every tensor")


@main.command()
@click.option(
    "--model", default="mini", help="mini, deepmac_1024x1024_coco17, or a folder with a checkpoint."
)
@click.option(
    "--format",
    "file_format",
    default="saved_model",
    type=click.Choice(["saved_model", "tflite", "onnx"]),
    help="onnx needs pip install 'deepmac[export]'.",
)
@_new_folder
@_input_size
def export(model, file_format, out, input_size):
    """Write a model as graphs for other programs.

    Two graphs serve interactive use: `encoder` is run once for a picture, `mask_head` for every set of boxes.
    TFLite and ONNX have each as a file, a SavedModel as signatures. Its signature `serving_default` is the
    whole model, with the inputs and outputs of the published graph: pictures of any size and boxes. README.md
    and graphs.json beside them say what each takes and gives. All are compared with the model before they are
    kept.
    """
    from deepmac.export import export_model

    difference = export_model(model, out, file_format, input_size)
    click.echo(f"Largest difference from the model: {difference:.1e}")
    click.echo(f"Wrote {out}; {Path(out) / 'README.md'} says how to use it")


@main.command()
@click.option("--model", default="mini", help="mini, or a folder that training wrote.")
@_coco_dir
@click.option("--split", default="val2017", help="Pictures to evaluate.")
@click.option(
    "--seen",
    type=click.Choice(["all", "voc", "non_voc"]),
    help="Classes counted as seen.  [default: those the model was trained with masks of]",
)
@_ids
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


@main.command()
@click.option("--model", required=True, help="A folder that training wrote.")
@_coco_dir
@click.option("--split", default="test-dev2017", help="Pictures, with or without annotations.")
@click.option("--name", default="deepmac", help="Of the method, for the file's name.")
@click.option("--out", required=True, type=click.Path(), help="Folder for the ZIP.")
def submission(model, coco_dir, split, name, out):
    """Write detections with masks for COCO's evaluation server.

    The ZIP is as the server demands it; where to upload it: cocodataset.org/#upload.
    """
    from deepmac.jobs.submission import write_submission

    click.echo(f"Wrote {write_submission(model, coco_dir, out, split, name)}")


@main.command("iwildcam-masks")
@click.option("--images", required=True, type=click.Path(), help="Folder of the pictures.")
@click.option("--detections", required=True, type=click.Path(), help="MegaDetector's results, JSON.")
@click.option("--out", required=True, type=click.Path(), help="Folder for the masks and a report.")
@click.option("--min-conf", default=0.0, help="No masks of less confident detections.")
@click.option("--shard", default="1/1", metavar="I/N", help="Part I of N; I counts from 0 or from 1.")
@_model
@_precision
@_input_size
@_scheduler
@click.option("--sixteen-bit", is_flag=True, help="16-bit masks of pictures with over 255 detections.")
@click.option("--overwrite", is_flag=True, help="Make masks again that exist.")
def iwildcam_masks(images, detections, out, shard, **options):
    """Predict the masks of a camera-trap collection's detections.

    JSON is MegaDetector's batch output, or that of iWildCam 2021 or 2022. For each picture with detections
    this writes OUT/ID.png in iWildCam's format: one channel, 0 is background, pixel K belongs to the K-th
    detection (from 1, in the order of the JSON), overlaps to the more confident one. For train/ID.jpg and
    test/ID.jpg the ID alone counts; masks of other subfolders go to subfolders.

    Run again, it goes on where it stopped: masks of the same picture, detections and model are kept. Parts
    may run at the same time, on machines that share the folders; workers of --scheduler need this package
    and the folders under the same paths. Pictures that cannot be read are skipped and listed in
    OUT/iwildcam_masks_report.json.

    Exit status: 0, also if some pictures were skipped; 2 if all were, or if the input is wrong.
    """
    from deepmac.iwildcam.make_masks import Shard, make_masks

    summary = make_masks(images, detections, out, shard=Shard.parse(shard), **options)
    for line in summary.problems()[:20]:
        click.echo(line, err=True)
    if len(summary.failed) > 20:
        click.echo(f"skipped: {len(summary.failed) - 20} more; see the report in {out}", err=True)
    click.echo(f"{summary}; {summary.written / summary.seconds:.1f} a second" if summary.written else summary)


@main.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def train(flags):
    """Train or evaluate with Model Garden's flags, as `python -m deepmac.train`."""
    import subprocess

    sys.exit(subprocess.run([sys.executable, "-m", "deepmac.train", *flags], check=False).returncode)
