"""Annotation files of other formats, and folders of them, as the content of one COCO file."""

import contextlib
from functools import partial
from pathlib import Path
from typing import Any

from deepmac.core.errors import InputError
from deepmac.data.annotation_folders import LABEL_SUFFIXES
from deepmac.data.documents import load_json
from deepmac.data.formats.collected import collected
from deepmac.data.formats.label_studio import read_task, task_picture
from deepmac.data.formats.labelme import read_labelme
from deepmac.data.formats.pascal_voc import read_voc
from deepmac.data.formats.yolo import CLASS_FILES, read_yolo
from deepmac.data.picture_files import PictureName, files_below, find_pictures


def load_annotations(path: Path, image_dir: Path | None) -> dict:
    """Reads annotations of any format as the content of a COCO file, which is checked elsewhere.

    Args:
        path: COCO's JSON, or Label Studio's; or a folder of files for each picture: YOLO's text (boxes or
            polygons), Pascal VOC's XML, LabelMe's JSON.
        image_dir: folder of the pictures; formats that count in parts of a picture need it.

    Raises:
        InputError: no such file, or of no such format.
    """
    return _load_folder(path, image_dir) if path.is_dir() else as_coco(load_json(path), path, image_dir)


def _load_folder(path: Path, image_dir: Path | None) -> dict:
    """Reads the files of a folder: the kind of which most are called like pictures; it names the others."""
    files_of: dict[str, list[Path]] = {suffix: [] for suffix in LABEL_SUFFIXES}
    for file in sorted(path.rglob("*")):
        if file.name not in CLASS_FILES and file.suffix.lower() in files_of:
            files_of[file.suffix.lower()].append(file)
    if image_dir and any(files_of.values()) and not image_dir.is_dir():
        raise InputError(f"{image_dir}: no such folder; it must hold the pictures of {path}")
    pictures = files_below(image_dir) if image_dir else []
    stems = {PictureName.of(picture.name).stem for picture in pictures}
    called = {
        suffix: [file for file in files if PictureName.of(file.stem).stem in stems]
        for suffix, files in files_of.items()
    }
    beside = [file for file in files_of[".json"] if file.parent == path]
    if len(beside) == 1 and not any(called.values()):  # of all pictures
        return load_annotations(beside[0], image_dir)
    unread = {}
    for suffix in sorted(files_of, key=lambda suffix: -len(called[suffix])):
        files = files_of[suffix]
        if not files or image_dir is None or (unread and not called[suffix]):
            continue
        if suffix == ".txt":
            content = read_yolo(files, path, pictures, image_dir)
        else:
            read = read_voc if suffix == ".xml" else read_labelme
            content = collected(files, partial(read, stems))
        if any(isinstance(image, dict) for image in content["images"]):
            others = [file for other in called if other != suffix for file in called[other]]
            content["images"] += [f"{file.name}: it is beside files of *{suffix}" for file in others]
            return content
        unread = unread or content  # what is wrong with each file is said elsewhere
    collections = files_of[".json"] if not any(called.values()) else []
    if len(collections) == 1:
        return load_annotations(collections[0], image_dir)
    if collections:
        raise InputError(f"{path}: {collections[0]} or {collections[1]}? Name one of the files")
    if unread:
        return unread
    raise InputError(f"{path} has no files of YOLO, Pascal VOC or LabelMe: name one for all pictures")


def as_coco(content: Any, path: Path, image_dir: Path | None) -> dict:
    """The content of a JSON file, COCO's or Label Studio's, as that of a COCO file. InputError: neither."""
    if isinstance(content, list) and all(isinstance(task, dict) and "data" in task for task in content):
        names = [task_picture(task) for task in content if isinstance(task["data"], dict)]
        paths: dict[str, Path] = {}
        if image_dir and image_dir.is_dir():
            with contextlib.suppress(InputError):  # which is raised where the pictures are needed
                paths = {name: image_dir / file for name, file in find_pictures(names, image_dir).items()}
        return collected(content, partial(read_task, paths))
    is_object = isinstance(content, dict)
    entries = content.values() if is_object else content if isinstance(content, list) else ()
    fields = set().union(*(entry for entry in entries if isinstance(entry, dict)))
    listed = content.get("annotations") if is_object else None
    first = listed[0] if isinstance(listed, list) and listed else None
    what = "is CreateML's JSON" if "annotations" in fields else "holds no JSON object"
    if not is_object and {"annotation_id", "annotator"} & fields:
        what = "is Label Studio's JSON-MIN"
    elif not is_object and {"image_id", "bbox"} <= fields:
        what = "is a list of results, without images and categories"
    elif is_object and "shapes" in content:
        raise InputError(f"{path} is LabelMe's JSON of one picture: name the folder of all")
    if "regions" in fields or (is_object and "_via_img_metadata" in content):
        what = "is VGG Image Annotator's own JSON"
    elif isinstance(first, dict) and "segments_info" in first:
        what = "is of COCO's panoptic segmentation, not of its instances"
    elif is_object:
        return content
    raise InputError(f"{path} {what}: export the annotations as COCO format")
