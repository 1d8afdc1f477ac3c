"""Draws the picture that opens the README: `python docs/opening.py`."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from skimage import data

import deepmac
from deepmac.core.drawing import overlay

# Public-domain photographs of scikit-image, with boxes (xmin, ymin, xmax, ymax) drawn by hand.
PICTURES = {
    "coffee": [(160, 18, 420, 262)],
    "rocket": [(305, 122, 340, 410)],
    "astronaut": [(0, 2, 420, 512), (272, 350, 500, 512)],
}


def main():
    """Segments the boxes with the shipped model and writes `opening.png` beside this file."""
    predictor = deepmac.load()
    images = [getattr(data, name)() for name in PICTURES]
    ratios = [image.shape[1] / image.shape[0] for image in images]
    figure = Figure(figsize=(12, 12 / np.sum(ratios)))
    figure.subplots_adjust(0, 0, 1, 1, wspace=0.02)
    axes = figure.subplots(1, len(images), width_ratios=ratios)
    for image, boxes, ax in zip(images, PICTURES.values(), axes, strict=True):
        predictor.set_image(image)
        prediction = predictor.predict(boxes, box_format="xyxy")
        ax.imshow(overlay(image, prediction.masks, prediction.boxes))
        ax.axis("off")
    figure.savefig(Path(__file__).with_name("opening.png"), dpi=90)


if __name__ == "__main__":
    main()
