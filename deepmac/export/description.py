"""What lies beside exported graphs: graphs.json for programs, README.md for people."""

import json
from collections.abc import Sequence
from pathlib import Path

from deepmac import configs
from deepmac.export.graphs import Graph

_PLACES = {
    "saved_model": "signature `{}` of `saved_model/`",
    "tflite": "`{}.tflite`",
    "onnx": "`{}.onnx`",
}
_USE = """\
## How to use the two halves

1. Scale the picture so that its longer side is {size} pixels (bilinear, output pixel i from input position
   i * scale, without anti-aliasing, as the model was trained; round the shorter side), put it into the upper
   left corner of a {size} x {size} square of zeros, and run `encoder` once. Values are RGB from 0 to 255;
   normalisation is inside the graph.
2. Divide boxes in pixels of the picture by its longer side: then they are normalised to the square. Run
   `mask_head` for every set of boxes.
3. Stretch each mask over its box: its first sample lies on one edge, the last on the other, between them
   interpolate bilinearly; pixel p of a side of H pixels lies at p / (H - 1) of it. A pixel whose probability
   is greater than 0.5 belongs to the object.
"""
_NOTES = {
    "saved_model": "",
    "tflite": "The input `boxes` has room for one box at first: resize it to the number of boxes (Python's "
    "signature runner does it by itself).\n",
    "onnx": "",
}


def write_description(
    folder: Path,
    model: str,
    file_format: str,
    graphs: Sequence[Graph],
    config: configs.DeepMACTaskConfig,
    difference: float,
):
    """Writes `graphs.json` and `README.md`.

    Args:
        folder: where the graphs are.
        model: what they were made of.
        file_format: one of `FORMATS`.
        graphs: what was written.
        config: of the task the model was trained for.
        difference: the largest one between graphs and model.
    """
    size = config.model.input_size[0]
    document = {
        "model": Path(model).name,  # where it lay on this machine is nobody's business
        "format": file_format,
        "input_size": size,
        "largest_difference_from_model": float(f"{difference:.1e}"),
        "graphs": {graph.name: _interface(graph) for graph in graphs},
    }
    (folder / "graphs.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    lines = [
        f"# {document['model']}: DeepMAC as {file_format}",
        "",
        "Made by `deepmac export`. The graphs compute in float32 and differ from the model by at most "
        f"{difference:.0e}.",
        "",
    ]
    for graph in graphs:
        place = _PLACES[file_format].format(graph.name)
        lines += [f"## {graph.name}: {place}", "", *_table(document["graphs"][graph.name]), ""]
    text = "\n".join([*lines, _USE.format(size=size), _NOTES[file_format]])
    (folder / "README.md").write_text(text.rstrip() + "\n", encoding="utf-8")


def _interface(graph: Graph) -> dict:
    return {
        direction: {
            name: {"shape": spec.shape.as_list(), "dtype": spec.dtype.name, "meaning": graph.meanings[name]}
            for name, spec in specs.items()
        }
        for direction, specs in (("inputs", graph.inputs), ("outputs", graph.outputs))
    }


def _table(interface: dict) -> list[str]:
    lines = ["| | name | shape | dtype | meaning |", "| --- | --- | --- | --- | --- |"]
    for direction, tensors in interface.items():
        for name, tensor in tensors.items():
            shape = ", ".join("any" if length is None else str(length) for length in tensor["shape"])
            cells = direction.removesuffix("s"), f"`{name}`", shape, tensor["dtype"], tensor["meaning"]
            lines.append(f"| {' | '.join(cells)} |")
    return lines
