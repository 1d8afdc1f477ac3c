"""Annotated masks, COCO's `segmentation`: polygons, or run lengths column by column."""

from pycocotools import mask as coco_mask


def mask_problem(segmentation, image: dict) -> str | None:
    """What is wrong, unless it is polygons of three points or more, or run lengths of an object."""
    shape = [image["height"], image["width"]]
    if isinstance(segmentation, dict):
        if segmentation.get("size") != shape:
            return f"'segmentation' is {segmentation.get('size')}, but its image is {shape}"
        counts = segmentation.get("counts")
        if isinstance(counts, list):
            is_mask = sum(counts) == shape[0] * shape[1] and sum(counts[1::2]) > 0
        else:
            is_mask = isinstance(counts, str | bytes) and coco_mask.area(segmentation) > 0
        return None if is_mask else "'segmentation' has run lengths of no object"
    polygons = segmentation if isinstance(segmentation, list) else []
    is_mask = all(isinstance(points, list) and len(points) in range(6, 10**9, 2) for points in polygons)
    return None if polygons and is_mask else "'segmentation' is neither polygons nor RLE"
