"""Commands that make masks of pictures."""

import contextlib
import dataclasses
from pathlib import Path

import click

from deepmac.cli import options
from deepmac.core.errors import InputError


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--box", "box_texts", multiple=True, metavar="Y0,X0,Y1,X1", help="A box (repeatable).")
@click.option("--boxes", "box_file", type=click.Path(), metavar="FILE", help="Boxes: JSON or CSV.")
@click.option(
    "--box-format",
    default="yxyx_norm",
    type=click.Choice(["yxyx_norm", "xyxy", "xywh"]),
    help="Of --box and CSV: Y0,X0,Y1,X1 from 0 to 1; in pixels X0,Y0,X1,Y1 or X,Y,WIDTH,HEIGHT.",
)
@click.option("--detect", is_flag=True, help="Or: find objects of the classes the model was trained on.")
@click.option(
    "--min-score",
    type=click.FloatRange(min=0),
    help="Leave out lower scores.  [default: 0, with --detect 0.3]",
)
@options.makes_masks
@click.option("--out", required=True, type=click.Path(file_okay=False), help="Folder for the results.")
@click.option("--overwrite", is_flag=True, help="Make results again that exist.")
@click.option(
    "--together",
    type=click.Choice(["coco", "polygons", "yolo"]),
    help="Also as one data set: OUT/annotations.json with run lengths or polygons, or OUT/yolo.",
)
def segment(images, box_texts, box_file, box_format, detect, min_score, out, overwrite, together, model):
    """Predict the mask of the object in each box of pictures, or of each object found in them.

    IMAGE is a file, a folder (with its subfolders) or a pattern such as 'photos/**/*.jpg'. For each picture
    NAME this writes NAME_masks.json (COCO results with run-length encoded masks), NAME_labels.png (0 is
    background, i + 1 the mask of box i) and NAME_overlay.png; for pictures of subfolders, into subfolders.
    Boxes without a score get the quality of the mask, the IoU expected with the object; the last line counts
    masks that are good, to check, or doubtful. Run again, it goes on where it stopped: results of the same
    picture, boxes and model are kept.

    FILE is COCO results (a list with image_id or file_name, and bbox), annotations as `deepmac tfrecord`
    takes them (a box that is missing is taken from the mask), results of MegaDetector, SpeciesNet or
    PytorchWildlife, or a .csv with a header: image, then ymin,xmin,ymax,xmax (for xywh: xmin,ymin,width,
    height), and as you like category_id and score.

    Exit status: 0, also if some pictures were skipped because they are unreadable or their boxes unusable
    (they are listed at the end); 2 if all were, or if the input is wrong.
    """
    from deepmac.inference.find import find_model
    from deepmac.jobs.box_files import ImageBoxes, boxes_from_texts, read_boxes
    from deepmac.jobs.pictures import list_pictures, without_results
    from deepmac.jobs.segment import segment

    if bool(box_texts) + bool(box_file) + detect != 1:
        raise click.UsageError("Give either --box or --boxes FILE, or --detect.")
    if detect:
        name = model.name
        if not find_model(name).detects:
            raise InputError(f"{name} finds no objects: use a model of `deepmac finetune`, or give boxes")
        boxes = ImageBoxes(min_score=0.3 if min_score is None else min_score)
        if model.runtime == "auto":
            model = dataclasses.replace(model, runtime="tensorflow")  # ONNX files have no detector
    elif box_texts:
        boxes = boxes_from_texts(box_texts, box_format)
    else:
        folder = Path(images[0]) if len(images) == 1 and Path(images[0]).is_dir() else None
        boxes = read_boxes(box_file, box_format, min_score or 0.0, folder)
    found = list_pictures(images)
    pictures = without_results(found)
    if results := len(found) - len(pictures):
        click.echo(f"skipped: {results} label images and overlays of earlier results", err=True)
    summary = segment(pictures, boxes, Path(out), model, overwrite, together or "")
    for line in [*getattr(boxes, "problems", []), *summary.problems()]:
        click.echo(line, err=True)
    if detect and summary.written and not any(summary.masks.values()):
        click.echo(f"no object has a score of {boxes.min_score} or more: try a lower --min-score", err=True)
    click.echo(f"{summary}; see {out}")


@click.command()
@click.argument("annotations", type=click.Path())
@click.option("--images", type=click.Path(), metavar="DIR", help="Their pictures; unless in ANNOTATIONS.")
@click.option("--out", required=True, type=click.Path(), metavar="FILE", help="File to write; new.")
@click.option("--all", "replace", is_flag=True, help="New masks also for annotations that have one.")
@click.option("--rle", is_flag=True, help="Run lengths instead of polygons.")
@click.option("--min-quality", type=click.FloatRange(0, 1), default=0.0, help="Leave out poorer masks.")
@click.option(
    "--format",
    "file_format",
    default="coco",
    type=click.Choice(["coco", "yolo"]),
    help="yolo: OUT becomes a folder of polygons.",
)
@options.makes_masks
def annotate(annotations, images, out, model, **choices):
    """Write a data set again, with a mask for every annotation that has none.

    ANNOTATIONS is JSON as COCO's, of any categories, or without --images a folder as an annotation tool
    exports it, with its pictures. FILE is the same, with everything else unchanged;
    annotations get `segmentation`, polygons as annotation tools read them, and `quality`. Run again after it
    was interrupted, it goes on where it stopped. Pictures that cannot be read are named, and their
    annotations stay as they are.
    """
    from deepmac.jobs.annotate import annotate

    click.echo(annotate(annotations, images, out, model, **choices))
    click.echo(f"Wrote {out}")


@click.command("iwildcam-masks")
@click.option("--images", required=True, type=click.Path(), help="Folder of the pictures.")
@click.option("--detections", required=True, type=click.Path(), help="MegaDetector's results, for example.")
@click.option("--out", required=True, type=click.Path(file_okay=False), help="Folder for masks and a report.")
@click.option("--min-conf", default=0.0, type=click.FloatRange(0, 1), help="Least confidence for a mask.")
@click.option("--shard", default="1/1", metavar="I/N", help="Part I of N; I counts from 0 or from 1.")
@options.makes_masks
@options.scheduler
@click.option("--palette", is_flag=True, help="Masks that are seen in colours; their values are the same.")
@click.option("--overlays", is_flag=True, help="Also pictures with their masks, and a contact sheet.")
@click.option("--overwrite", is_flag=True, help="Make masks again that exist.")
def iwildcam_masks(images, detections, out, shard, model, scheduler, overwrite, **choices):
    """Predict the masks of a camera-trap collection's detections.

    Detections are JSON of MegaDetector, iWildCam 2021 or 2022, SpeciesNet, PytorchWildlife or animl, animl's
    CSV, or the datapackage.json of a Camtrap DP. For each picture that has some this writes OUT/ID.png in
    iWildCam's format: one channel, 0 is background, pixel K belongs to the K-th detection (from 1, in the
    order of the file), overlaps to the more confident one; 16 bits only where a K is over 255. For
    train/ID.jpg and test/ID.jpg the ID alone counts; masks of other subfolders go to subfolders. With
    --overlays the pictures with their masks are in OUT/overlays, and some of them on OUT/contact_sheet.jpg.

    Run again, it goes on where it stopped: masks of the same picture, detections and model are kept. Parts
    may run at the same time, on machines that share the folders; workers of --scheduler need this package
    and the folders under the same paths. Pictures that cannot be read are skipped and listed in
    OUT/iwildcam_masks_report.json.

    Exit status: 0, also if some pictures were skipped; 2 if all were, or if the input is wrong.
    """
    from deepmac.iwildcam.layout import find_layout
    from deepmac.iwildcam.make_masks import MaskOptions, make_masks, parse_shard

    how = {"scheduler": scheduler, "overwrite": overwrite}
    summary = make_masks(images, detections, out, model, MaskOptions(**choices), parse_shard(shard), **how)
    problems = summary.problems()
    for line in problems[:20]:
        click.echo(line, err=True)
    if len(problems) > 20:
        click.echo(f"skipped: {len(problems) - 20} more; see the report in {out}", err=True)
    speed = f", {summary.written / summary.seconds:.1f} a second" if summary.written else ""
    click.echo(f"{summary}{speed}; see {out}")
    given, found = {"iwildcam_dir": images, "detections": detections, "masks": out}, {}
    with contextlib.suppress(InputError):  # of several files of detections the notebook finds none
        found = vars(find_layout(images))
    settings = ", ".join(
        f'{name} = "{Path(path).resolve()}"'
        for name, path in given.items()
        if name not in found or Path(path).resolve() != found[name].resolve()
    )
    notebook = "notebooks/iwildcam.ipynb, which `make browse` opens"
    click.echo(f"Next: browse them in {notebook}; set {settings} in its first cell")
