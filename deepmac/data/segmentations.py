"""Annotated masks, COCO's `segmentation`: polygons, or run lengths column by column.

They are checked before pycocotools sees them: run lengths beyond the picture end its process, and polygons
that reach far away take all memory.
"""

_FAR = 10  # sides of the picture; points of a polygon farther away from it are a mistake


def mask_problem(segmentation, image: dict) -> str | None:
    """What is wrong, unless it is polygons of three points or more, or run lengths of an object.

    Args:
        segmentation: of an annotation, anything that JSON holds.
        image: with `height` and `width`.
    """
    shape = [image["height"], image["width"]]
    if isinstance(segmentation, dict):
        size = segmentation.get("size")
        if size != shape or not all(isinstance(side, int) for side in size):
            return f"'segmentation' is {size}, but its image is {shape}"
        counts = segmentation.get("counts")
        counts = _decompressed(counts) if isinstance(counts, str | bytes) else counts
        is_mask = (
            isinstance(counts, list)
            and all(isinstance(count, int) and count >= 0 for count in counts)
            and sum(counts) == shape[0] * shape[1]
            and sum(counts[1::2]) > 0
        )
        return None if is_mask else "'segmentation' has run lengths of no object"
    polygons = segmentation if isinstance(segmentation, list) else []
    if not polygons or not all(isinstance(points, list) for points in polygons):
        return "'segmentation' is neither polygons nor RLE"
    if not all(len(points) in range(6, 10**9, 2) for points in polygons):
        return "'segmentation' has a polygon of other than three points or more"
    far = _FAR * max(shape)
    near = all(isinstance(x, int | float) and -far <= x <= far for points in polygons for x in points)
    return None if near else f"'segmentation' has a point that is no number, or over {far} pixels away"


def _decompressed(text: str | bytes) -> list[int] | None:
    """Run lengths of COCO's compressed form, None if it is none.

    Five bits a character, the lowest first, a sixth for "more follow"; from the fourth number on, differences
    from the last but one.
    """
    codes = [code - 48 for code in (text if isinstance(text, bytes) else text.encode("utf-8"))]
    if not codes or min(codes) < 0 or max(codes) > 63 or codes[-1] & 32:
        return None
    counts, value, shift = [], 0, 0
    for code in codes:
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts
