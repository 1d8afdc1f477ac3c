"""Commands that make data sets."""

import contextlib
import json
from pathlib import Path

import click

from deepmac.cli import options
from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file, refuse_occupied, write_text

_COUNT = click.IntRange(1, 1_000_000)  # image ids of the splits are that far apart


@click.command()
@options.new_folder
@click.option("--images", required=True, type=_COUNT, help="Number of training images.")
@click.option(
    "--val-images", type=_COUNT, help="Number of validation images.  [default: a fifth of --images]"
)
@click.option(
    "--size", default=128, type=click.IntRange(32, 4096), help="Side of the square images in pixels."
)
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Same seed, same images.")
@click.option("--jobs", type=click.IntRange(min=1), help="Scenes at once.  [default: one for each core]")
@click.option("--sprites", type=click.Path(), help="Own RGBA cut-outs to add: CLASS NAME/PICTURE.png")
def scenes(out, images, val_images, size, seed, jobs, sprites):
    """Compose images with instance masks from emoji artwork, as a COCO folder."""
    from deepmac.scenes.dataset import compose_scenes

    folder = compose_scenes(out, images, val_images, size=size, seed=seed, jobs=jobs, sprites=sprites)
    click.echo(f"Wrote {folder}; look at {folder / 'contact_sheet.png'}")


@click.command()
@options.coco_dir
@options.new_folder
@click.option("--split", default="train2017", help="Pictures to cut from.")
@options.ids
def cutouts(coco_dir, out, split, ids):
    """Cut annotated objects out of photographs, for `deepmac scenes --sprites`."""
    from deepmac.data.data_sets import read_image_ids
    from deepmac.scenes.cutouts import write_cutouts

    count = write_cutouts(coco_dir, out, split, read_image_ids(ids) if ids else None)
    click.echo(f"Wrote {count} cut-outs to {out}")


@click.command()
@click.option("--coco-dir", type=click.Path(), help="Folder in the layout of COCO or an annotation tool.")
@click.option("--annotations", type=click.Path(), metavar="FILE", help="Or: annotations, a file or a folder.")
@click.option("--images", type=click.Path(), metavar="DIR", help="Their pictures.")
@click.option("--val-annotations", type=click.Path(), metavar="FILE", help="Annotations to validate with.")
@click.option("--val-fraction", type=click.FloatRange(0, 0.9), default=0.0, help="Or part of the pictures.")
@options.new_folder
@click.option("--split", "splits", multiple=True, help="Of --coco-dir (repeatable).  [default: all]")
@click.option("--shards", type=click.IntRange(min=1), help="Files per split.  [default: by its size]")
@options.ids
@click.option(
    "--report", type=click.Path(dir_okay=False), metavar="FILE", help="JSON: all that was mended or left out."
)
def tfrecord(coco_dir, annotations, images, val_annotations, val_fraction, out, splits, shards, ids, report):
    """Check annotations and write them with their pictures as TFRecords.

    Either --coco-dir, or --annotations with --images, which become the splits train and val: COCO's JSON as
    any tool writes it, YOLO's text (boxes, polygons), Pascal VOC's XML, JSON of LabelMe and Label Studio.
    Categories are those of the files; boxes without a mask stay, to teach the detector.

    What is missing is derived, what is unambiguous repaired, and what is broken left out: of a mask, a part;
    else the mask, the box, or the picture. All of it is counted.
    """
    if report and Path(report).exists() and not _is_report(Path(report)):
        raise InputError(f"{report} is there and no report of this command: give --report another name")
    refuse_occupied(out)
    read = options.read_data(coco_dir, annotations, images, splits, ids, val_annotations, val_fraction)
    from deepmac.data.tfrecords import write_tfrecords  # TensorFlow starts only if the input is good

    text = json.dumps({split: data.report() for split, data in read.items()}, indent=1)
    is_inside = bool(report) and Path(report).resolve().is_relative_to(Path(out).resolve())
    with atomic_file(report) if report and not is_inside else contextlib.nullcontext() as file:
        if file:
            file.write_text(text, encoding="utf-8")  # before the records: it may be where nobody can write
        write_tfrecords(read, out, shards)
    if is_inside:
        write_text(report, text)
    for data in read.values():
        click.echo(data)
    click.echo(f"Wrote {', '.join(read)} to {out}")


def _is_report(path: Path) -> bool:
    """Whether a file is a report of `tfrecord`, or empty: no other may be replaced by one."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return not text or all("repairs" in split for split in json.loads(text).values())
    except (ValueError, AttributeError, TypeError):
        return False
