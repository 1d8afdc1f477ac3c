"""Mask heads: from a box's crop of the pixel embedding to mask logits (arXiv 2104.00613, section 3).

`mask_head_pixels` makes the crops, a head built by `build_mask_head` turns them into logits,
`crop_logits` brings full-resolution logits into the boxes. `MASK_HEADS`, at the end, lists all heads.
"""

import itertools
import re
from functools import partial

import tensorflow as tf
import tf_keras
from official.projects.deepmac_maskrcnn.modeling.heads import hourglass_network

from deepmac import configs
from deepmac.core.errors import InputError
from deepmac.modeling import roi
from deepmac.modeling.keras_fixes import use_repeat_upsampling

_FULLY_CONNECTED_UNITS = 1024
_STRIDE = 4  # pixels of the network input for each cell of the feature map


def build_mask_head(config: configs.MaskHeadConfig) -> tf_keras.layers.Layer:
    """Builds the mask head `config.network_type` names.

    Returns:
        A layer called as `head(instance_embedding, pixel_embedding, training=...)`: instance
        embeddings [M, E] and what `mask_head_pixels` gives, flattened to [M, S, S, D'] -> mask logits
        float32 [M, S, S]. Variables of the published checkpoint under `model/_mask_net` restore into
        it by object.

    Raises:
        InputError: unknown type, or options that do not fit together.
    """
    if config.predict_full_resolution_masks and config.max_roi_jitter_ratio > 0:
        raise InputError(
            "mask_head: full-resolution masks are not cropped, so max_roi_jitter_ratio must be 0, "
            f"not {config.max_roi_jitter_ratio}"
        )
    name = config.network_type
    build = MASK_HEADS.get(name) or MASK_HEADS.get(re.sub(r"[1-9]\d*$", "<N>", name))
    if build is None:
        raise InputError(f"unknown mask_head.network_type {name!r}: use one of {', '.join(MASK_HEADS)}")
    return build(config)


def mask_head_pixels(pixel_embedding, boxes, config: configs.MaskHeadConfig):
    """What the mask head sees of the pixel embedding for each box, coordinates first if `use_xy`.

    RoI crops carry their own coordinates (y, x), -1 to 1 from edge to edge. With
    `predict_full_resolution_masks` every box sees the whole map, and coordinates that run from 0 to 1
    over the map, minus the box's centre.

    Args:
        pixel_embedding: float [B, H, W, D].
        boxes: float32 [B, N, 4] (ymin, xmin, ymax, xmax) normalised.

    Returns:
        [B, N, S, S, D'], or [B, N, H, W, D'] at full resolution, in the dtype of `pixel_embedding`; D'
        is D + 2 with coordinates.
    """
    if config.predict_full_resolution_masks:
        num_boxes = boxes.shape[1] or tf.shape(boxes)[1]
        pixels = tf.repeat(pixel_embedding[:, tf.newaxis], num_boxes, axis=1)  # (B, N, H, W, D)
        grid = roi.coordinate_grid(0.0, 1.0, *roi.map_size(pixel_embedding))  # (H, W, 2)
        coordinates = grid - roi.box_centers(boxes)[:, :, tf.newaxis, tf.newaxis]  # (B, N, H, W, 2)
    else:
        pixels = roi.crop_boxes(pixel_embedding, boxes, config.mask_size)  # (B, N, S, S, D)
        grid = roi.coordinate_grid(-1.0, 1.0, config.mask_size, config.mask_size)
        coordinates = tf.zeros_like(pixels[..., :1]) + tf.cast(grid, pixels.dtype)
    if not config.use_xy:
        return pixels
    return tf.concat([tf.cast(coordinates, pixels.dtype), pixels], axis=-1)


def crop_logits(logits, boxes, config: configs.MaskHeadConfig):
    """Brings mask logits into their boxes.

    Args:
        logits: float32 [B, N, S, S] logits inside each box: returned as they are. With
            `predict_full_resolution_masks` [B, N, H, W] over the image: resized to its pixels, then cropped.
        boxes: float32 [B, N, 4] normalised.

    Returns:
        float32 [B, N, S, S], S being `mask_size`, or `postprocess_crop_size` at full resolution.
    """
    if not config.predict_full_resolution_masks:
        return logits
    height, width = roi.map_size(logits, axis=1 if config.resize_by_box_count else 2)
    resized = roi.resize_maps(logits, height * _STRIDE, width * _STRIDE)
    return roi.crop_maps(resized, boxes, config.postprocess_crop_size)


class MaskHead(tf_keras.layers.Layer):
    """A network on the pixel embedding, with the instance embedding repeated over its grid.

    The attributes `_net` and `project_out` are the keys of the published checkpoints.
    """

    def __init__(self, network: tf_keras.layers.Layer, use_instance_embedding: bool, project: bool = True):
        """Creates the head.

        Args:
            network: layer of [M, S, S, C] -> [M, S, S, C'] or a list of these, the last of which counts.
            use_instance_embedding: whether the network sees the instance embedding, as last channels.
            project: whether a convolution 1x1 makes one channel of the network's output.
        """
        super().__init__(name="mask_head")
        self._net = network
        self._use_instance_embedding = use_instance_embedding
        # float32 also under mixed precision: logits need more than 8 bits.
        self.project_out = tf_keras.layers.Conv2D(1, 1, dtype="float32") if project else None

    def call(self, instance_embedding, pixel_embedding, training=None):
        """Mask logits float32 [M, S, S] from embeddings [M, E] and [M, S, S, D']."""
        net = tf.cast(pixel_embedding, self.compute_dtype)
        if self._use_instance_embedding:
            instances = tf.cast(instance_embedding, net.dtype)[:, tf.newaxis, tf.newaxis]
            instances = tf.zeros_like(net[..., :1]) + instances  # (M, S, S, E)
            net = tf.concat([net, instances], axis=-1)
        # Keras hands `training` down to batch norm; the hourglass has no such argument.
        net = self._net(net)
        if isinstance(net, list):
            net = net[-1]
        if self.project_out is not None:
            net = self.project_out(net)
        return tf.cast(net[..., 0], tf.float32)


class ResNet(tf_keras.layers.Layer):
    """Pre-activation basic blocks (arXiv 1603.05027) of stride 1 above a convolution 1x1."""

    def __init__(self, num_init_channels: int, stacks):
        """Args: num_init_channels: C of the first convolution; stacks: (blocks, multiple of C) each."""
        super().__init__(name="resnet")
        self.input_layer = tf_keras.layers.Conv2D(num_init_channels, 1)
        inputs = tf_keras.layers.Input([None, None, num_init_channels])
        net = inputs
        for num_blocks, multiple in stacks:
            for block in range(num_blocks):
                net = _basic_block(net, num_init_channels * multiple, project_shortcut=block == 0)
        # A functional model numbers its layers as the published checkpoints do.
        self.model = tf_keras.Model(inputs, net)

    def call(self, inputs):
        """[M, S, S, C'] from [M, S, S, D]."""
        return self.model(self.input_layer(inputs))


class FullyConnected(tf_keras.layers.Layer):
    """Convolution 1x1, then two dense layers over all positions: one value for each."""

    def __init__(self, num_init_channels: int, mask_size: int):
        """Args: num_init_channels: channels of the convolution; mask_size: S of input and output."""
        super().__init__(name="fully_connected")
        self._mask_size = mask_size
        self._flat_size = mask_size * mask_size * num_init_channels
        self.input_layer = tf_keras.layers.Conv2D(num_init_channels, 1)
        self.fc1 = tf_keras.layers.Dense(_FULLY_CONNECTED_UNITS, activation="relu")
        self.fc2 = tf_keras.layers.Dense(mask_size * mask_size, dtype="float32")

    def call(self, inputs):
        """[M, S, S, 1] from [M, S, S, D]."""
        net = tf.reshape(self.input_layer(inputs), [-1, self._flat_size])
        return tf.reshape(self.fc2(self.fc1(net)), [-1, self._mask_size, self._mask_size, 1])


class EmbeddingProjection(tf_keras.layers.Layer):
    """Dot product of the instance embedding with the pixel embedding at each position; no variables."""

    def call(self, instance_embedding, pixel_embedding, training=None):
        """Mask logits float32 [M, S, S] from embeddings [M, E] and [M, S, S, E]."""
        instances = tf.cast(instance_embedding, tf.float32)[:, tf.newaxis, tf.newaxis]
        return tf.reduce_sum(instances * tf.cast(pixel_embedding, tf.float32), axis=-1)


class ConditionalConvolutions(tf_keras.layers.Layer):
    """Convolutions 1x1 whose weights are the instance embedding (CondInst, arXiv 2003.05664).

    The embedding holds, layer after layer, the weights (input x output channels, row-major) and then the
    biases. Inner layers have ReLU, the last one has a single channel.
    """

    def __init__(self, shapes: tuple[tuple[int, int], ...]):
        """Args: shapes: (input, output) channels of every layer."""
        super().__init__(name="conditional_convolutions")
        self._shapes = shapes

    def call(self, instance_embedding, pixel_embedding, training=None):
        """Mask logits float32 [M, S, S] from embeddings [M, E] and [M, S, S, D']."""
        *size, input_channels = pixel_embedding.shape[1:]
        net = tf.reshape(tf.cast(pixel_embedding, tf.float32), [-1, size[0] * size[1], input_channels])
        sizes = [part for inputs, outputs in self._shapes for part in (inputs * outputs, outputs)]
        parameters = tf.split(tf.cast(instance_embedding, tf.float32), sizes, axis=-1)
        for layer, (inputs, outputs) in enumerate(self._shapes):
            weights = tf.reshape(parameters[2 * layer], [-1, inputs, outputs])
            net = tf.matmul(net, weights) + parameters[2 * layer + 1][:, tf.newaxis]
            if layer < len(self._shapes) - 1:
                net = tf.nn.relu(net)
        return tf.reshape(net, [-1, *size])


def _basic_block(inputs, channels, project_shortcut):
    layers = tf_keras.layers
    batch_norm = partial(layers.BatchNormalization, epsilon=1.001e-5, synchronized=True)
    net = layers.ReLU()(batch_norm()(inputs))
    shortcut = layers.Conv2D(channels, 1)(net) if project_shortcut else inputs
    for _ in range(2):
        net = layers.Conv2D(channels, 3, padding="same", use_bias=False)(net)
        net = layers.ReLU()(batch_norm()(net))
    return layers.Add()([shortcut, net])


def _hourglass_head(constructor, factor, config, **options):
    """Args: constructor: Model Garden's; factor: what its innermost level is downsampled by."""
    if not config.predict_full_resolution_masks and config.mask_size % factor:
        raise InputError(
            f"mask_head.mask_size must be a multiple of {factor} for {config.network_type}, "
            f"not {config.mask_size}"
        )
    network = constructor(config.num_init_channels, **options)
    use_repeat_upsampling(network)
    return MaskHead(network, config.use_instance_embedding)


def _resnet_head(stacks, config):
    return MaskHead(ResNet(config.num_init_channels, stacks), config.use_instance_embedding)


def _fully_connected_head(config):
    _require(config, predict_full_resolution_masks=False)  # it predicts masks of `mask_size` only
    network = FullyConnected(config.num_init_channels, config.mask_size)
    return MaskHead(network, config.use_instance_embedding, project=False)


def _embedding_projection_head(config):
    _require(config, use_instance_embedding=False, use_xy=False, dim=config.pixel_embedding_dim)
    return EmbeddingProjection(name="embedding_projection")


def _conditional_head(config):
    depth, channels = int(config.network_type.removeprefix("cond_inst")), config.num_init_channels
    input_channels = config.pixel_embedding_dim + (2 if config.use_xy else 0)
    shapes = tuple(itertools.pairwise([input_channels, *[channels] * (depth - 1), 1]))
    _require(
        config,
        use_instance_embedding=False,  # the embedding holds parameters instead
        num_init_channels=input_channels if depth == 1 else channels,
        dim=sum((inputs + 1) * outputs for inputs, outputs in shapes),
    )
    return ConditionalConvolutions(shapes)


def _require(config, **options):
    for name, value in options.items():
        if getattr(config, name) != value:
            raise InputError(
                f"mask_head.{name} must be {value} for network_type {config.network_type} with the other "
                f"options as they are, not {getattr(config, name)}"
            )


# `mask_head.network_type` -> builder, called with the `MaskHeadConfig`; see `build_mask_head` for what it
# returns. A name that ends in <N> stands for all positive numbers there.
MASK_HEADS = {
    "hourglass10": partial(_hourglass_head, hourglass_network.hourglass_10, 2, initial_downsample=False),
    "hourglass20": partial(_hourglass_head, hourglass_network.hourglass_20, 4, initial_downsample=False),
    "hourglass32": partial(_hourglass_head, hourglass_network.hourglass_32, 8, initial_downsample=False),
    "hourglass52": partial(_hourglass_head, hourglass_network.hourglass_52, 32, initial_downsample=False),
    "hourglass100": partial(_hourglass_head, hourglass_network.hourglass_100, 32, initial_downsample=False),
    "hourglass20_uniform_size": partial(_hourglass_head, hourglass_network.hourglass_20_uniform_size, 1),
    "hourglass20_no_shortcut": partial(_hourglass_head, hourglass_network.hourglass_20_no_shortcut, 4),
    "resnet4": partial(_resnet_head, [(2, 2)]),  # stacks of (blocks, multiple of num_init_channels)
    "resnet8": partial(_resnet_head, [(4, 2)]),
    "resnet12": partial(_resnet_head, [(6, 2)]),
    "resnet16": partial(_resnet_head, [(8, 2)]),
    "resnet20": partial(_resnet_head, [(8, 2), (2, 3)]),
    "fully_connected": _fully_connected_head,
    "embedding_projection": _embedding_projection_head,
    "cond_inst<N>": _conditional_head,
}
