"""Small collections in the layouts of the iWildCam releases, and of no release."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

BOXES = [[0.1, 0.2, 0.5, 0.6], [0.3, 0.1, 0.6, 0.5], [0.0, 0.0, 0.4, 0.4]]  # (xmin, ymin, width, height)
CONFIDENCES = [0.61, 0.93, 0.22]
SIZE = (48, 80)  # height, width
# Picture -> number of its detections.
DETECTIONS = {"a-1": 2, "b-2": 3, "c-3": 0, "d-4": 1}
TRAIN = ("a-1", "b-2", "c-3")


def detections_of(count: int) -> list[dict]:
    """The first detections of the lists above, as in MegaDetector's JSON."""
    rows = zip(BOXES[:count], CONFIDENCES[:count], strict=True)
    return [{"category": "1", "bbox": box, "conf": confidence} for box, confidence in rows]


def write_detections(path: Path, pictures: dict[str, int], named_by: str = "file") -> Path:
    """Writes a detections file: picture -> number of its detections."""
    images = [
        {named_by: name, "max_detection_conf": 0.9, "detections": detections_of(count)}
        for name, count in pictures.items()
    ]
    categories = {"1": "animal", "2": "person"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "detection_categories": categories, "info": {}}))
    return path


def write_picture(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> None:
    """Writes a smooth random picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC).save(path)


def write_release(root: Path, year: int = 2022, nested: bool = False) -> Path:
    """Writes a collection of four pictures without masks, as released in 2021 or 2022.

    Args:
        root: the folder.
        year: 2021 or 2022.
        nested: whether each archive was unpacked into a folder of its name.
    """
    metadata = root / "metadata" / ("metadata" if nested else "")
    split = {name: "train" if name in TRAIN else "test" for name in DETECTIONS}
    for seed, name in enumerate(DETECTIONS):
        write_picture(root / split[name] / (split[name] if nested else "") / f"{name}.jpg", seed)
    if year == 2022:
        path, named_by = metadata / "iwildcam2022_mdv4_detections.json", "file"
        write_detections(path, {f"{split[n]}/{n}.jpg": count for n, count in DETECTIONS.items()}, named_by)
        (metadata / "train_sequence_counts.csv").write_text("seq_id,count\ns1,2\n")
    else:
        write_detections(metadata / "iwildcam2021_megadetector_results.json", DETECTIONS, "id")
    images = [_image(number, name) for number, name in enumerate(DETECTIONS)]
    annotations = [
        {"id": f"x{number}", "image_id": name, "category_id": int(DETECTIONS[name] > 0)}
        for number, name in enumerate(TRAIN)
    ]
    categories = [{"id": 0, "name": "empty"}, {"id": 1, "name": "panthera pardus"}]
    train = {"images": images[:3], "annotations": annotations, "categories": categories}
    (metadata / f"iwildcam{year}_train_annotations.json").write_text(json.dumps(train))
    (metadata / f"iwildcam{year}_test_information.json").write_text(json.dumps({"images": images[3:]}))
    return root


def _image(number: int, name: str) -> dict:
    return {
        "id": name,
        "file_name": f"{name}.jpg",
        "width": SIZE[1],
        "height": SIZE[0],
        "location": 7 if name in TRAIN else 8,
        "seq_id": "s1" if number < 2 else f"s{number}",
        "seq_num_frames": 2 if number < 2 else 1,
        "frame_num": number % 2,
        "datetime": f"2013-10-04 13:31:5{number}.000",
    }
