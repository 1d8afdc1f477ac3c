"""Compares exported graphs, read from disk, with the model they were made of."""

from collections.abc import Callable, Mapping

import numpy as np

from deepmac import configs
from deepmac.data.preprocessing import pad_to_square, resize_image, resized_shape
from deepmac.inference.exported import SIGNATURE
from deepmac.inference.load import InferenceNetwork
from deepmac.modeling.model import DeepMACModel

# Graphs must take any number of boxes.
_NUM_BOXES = (8, 1)


def largest_difference(
    graphs: Mapping[str, Callable[..., dict[str, np.ndarray]]],
    model: DeepMACModel,
    config: configs.DeepMACTaskConfig,
) -> float:
    """Runs graphs and model on a random picture and random boxes.

    Args:
        graphs: name -> what runs the graph, arrays by name in and out.
        model: the model, in float32.
        config: of the task it was trained for.

    Returns:
        The largest absolute difference of probabilities, scores and (relative to their magnitude) embeddings.
    """
    rng = np.random.default_rng(0)
    size = config.model.input_size[0]
    image = rng.integers(0, 256, (size // 2, size * 3 // 4, 3), np.uint8)
    network = InferenceNetwork(model, config, "float32")
    pixels, part = network.prepare(image)
    [embeddings] = network.encode([pixels])

    square = pad_to_square(resize_image(image, resized_shape(image.shape[:2], size)), size)
    encoded = graphs["encoder"](image=square.numpy()[np.newaxis])
    names = "instance_embedding", "pixel_embedding"
    differences = [
        _difference(encoded[name], expected) / max(1.0, float(np.abs(expected).max()))
        for name, expected in zip(names, map(np.asarray, embeddings), strict=True)
    ]
    for count in _NUM_BOXES:
        boxes = _random_boxes(rng, count)  # of the picture
        in_square = boxes * np.tile(part, 2)
        expected = network.mask_probs(embeddings, in_square)
        masks = graphs["mask_head"](**encoded, boxes=in_square[np.newaxis])["mask_probs"]
        differences.append(_difference(masks[0], expected))
        if SIGNATURE in graphs:
            outputs = graphs[SIGNATURE](input_tensor=image[np.newaxis], boxes=boxes[np.newaxis])
            scores = model(pixels, training=False)["confidence"].numpy()
            differences.append(_difference(outputs["detection_masks"][0], expected))
            differences.append(_difference(outputs["detection_scores"], scores))
    return max(differences)


def _random_boxes(rng, count):
    """Boxes float32 [count, 4], (ymin, xmin, ymax, xmax) from 0 to 1."""
    corners = rng.uniform(0, 0.5, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(0.2, 0.5, (count, 2))], axis=1).astype(np.float32)


def _difference(value: np.ndarray, expected: np.ndarray) -> float:
    """The largest absolute difference; infinite for another shape or NaN."""
    if value.shape != expected.shape:
        return np.inf
    return float(np.nan_to_num(np.abs(value - expected), nan=np.inf).max())
