"""The list of masks beside the canvas."""

import html
from collections.abc import Sequence

import numpy as np

from deepmac.core.categories import ID_BY_NAME
from deepmac.inference.prediction import Prediction

_HEADER = (
    "<tr><th></th><th>name</th><th title='part of the box that the mask fills'>of box</th>"
    "<th title='how little the mask depends on the threshold, 0 to 1'>stability</th></tr>"
)


def mask_table(prediction: Prediction, names: Sequence[str], colors: np.ndarray) -> str:
    """A table of masks, as HTML.

    Args:
        prediction: N masks.
        names: N names; those of COCO's classes are marked.
        colors: uint8 RGB [N, 3].
    """
    fills = (prediction.mask_probs > prediction.threshold).mean(axis=(1, 2))
    rows = [
        f"<tr><td><span style='color: rgb({','.join(map(str, color))})'>&#9632;</span></td>"
        f"<td>{html.escape(name)}{' (COCO)' if name in ID_BY_NAME else ''}</td>"
        f"<td>{fill:.0%}</td><td>{stability:.2f}</td></tr>"
        for name, color, fill, stability in zip(
            names, colors.tolist(), fills, prediction.stability, strict=True
        )
    ]
    return (
        "<div style='max-height: 220px; overflow-y: auto; line-height: 1.4'>"
        f"<table style='width: 100%; text-align: left'>{_HEADER}{''.join(rows)}</table></div>"
    )
