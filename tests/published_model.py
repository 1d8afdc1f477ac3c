"""A DeepMAC model written anew from the published definition: Keras layers for networks, NumPy elsewhere.

Its checkpoint has the published keys. Used to check what no reference tensor covers.
"""

import itertools

import numpy as np
import tensorflow as tf
import tf_keras
from official.projects.deepmac_maskrcnn.modeling.heads import hourglass_network

EPSILON = 1.001e-5
HEADS = {
    "ct_heatmaps": "object_center",
    "ct_size": "box/scale",
    "ct_offset": "box/offset",
    "instance_embedding": "INSTANCE_EMBEDDING",
    "pixel_embedding": "PIXEL_EMBEDDING",
}
RESNETS = {"resnet4": [2], "resnet8": [4], "resnet12": [6], "resnet16": [8], "resnet20": [8, 2]}


class PublishedModel:
    """Backbone, prediction heads and mask head with random weights."""

    def __init__(self, model, seed=0):
        """Args: model: `experiments.DeepMACModel`; seed: of the weights."""
        self.config, head = model, model.mask_head
        hourglass = model.backbone.hourglass
        channels, width = hourglass.input_channel_dims, head.num_init_channels
        specification = {10: [2, 2], 20: [2, 2, 3], 32: [2, 2, 3, 3], 52: [2, 2, 3, 3, 3, 4]}
        blocks = {10: [1, 1], 20: [1, 2, 2], 32: [2, 2, 2, 2], 52: [2, 2, 2, 2, 2, 4]}
        self.backbone = hourglass_network.HourglassNetwork(
            num_stages=len(blocks[hourglass.model_id]) - 1,
            input_channel_dims=channels,
            channel_dims_per_stage=[channels * factor for factor in specification[hourglass.model_id]],
            blocks_per_stage=blocks[hourglass.model_id],
            num_hourglasses=hourglass.num_hourglasses,
        )
        outputs = {"ct_heatmaps": model.num_classes, "ct_size": 2, "ct_offset": 2}
        outputs |= {"instance_embedding": head.dim, "pixel_embedding": head.pixel_embedding_dim}
        self.heads = {
            HEADS[name]: [
                prediction_head(model.head.num_filters, count) for _ in range(hourglass.num_hourglasses)
            ]
            for name, count in outputs.items()
        }
        kind = head.network_type
        self.mask_net = tf.Module()
        if kind.startswith("hourglass"):
            if kind in ("hourglass20_uniform_size", "hourglass20_no_shortcut"):
                network = getattr(hourglass_network, kind.replace("hourglass20", "hourglass_20"))(width)
            else:
                build = getattr(hourglass_network, kind.replace("hourglass", "hourglass_"))
                network = build(width, initial_downsample=False)
        elif kind in RESNETS:
            network = tf.Module()
            network.input_layer = tf_keras.layers.Conv2D(width, 1)
            network.model = resnet(width, RESNETS[kind])
        elif kind == "fully_connected":
            network = tf.Module()
            network.input_layer = tf_keras.layers.Conv2D(width, 1)
            network.fc1 = tf_keras.layers.Dense(1024, activation="relu")
            network.fc2 = tf_keras.layers.Dense(head.mask_size**2)
        else:
            network = None
        if network is not None:
            self.mask_net._net = network
            if kind != "fully_connected":
                self.mask_net.project_out = tf_keras.layers.Conv2D(1, 1)
        size = model.input_size[0]
        # Creates the variables.
        self.mask_logits(self.outputs(np.zeros((1, size, size, 3), np.float32)), np.zeros((1, 1, 4)), 0)
        rng = np.random.default_rng(seed)
        for variable in self.variables:
            name = variable.name.rsplit("/")[-1]
            if name.startswith(("gamma", "moving_variance")):
                variable.assign(rng.uniform(0.5, 1.5, variable.shape))
            else:
                fan_in = np.prod(variable.shape[:-1]) if variable.shape.rank > 1 else 50
                variable.assign(rng.normal(0, fan_in**-0.5, variable.shape))

    @property
    def variables(self):
        """All variables."""
        parts = [self.backbone, *(layer for stages in self.heads.values() for layer in stages)]
        found = [variable for part in parts for variable in part.variables]
        layers = [module for module in self.mask_net.submodules if isinstance(module, tf_keras.layers.Layer)]
        return found + list({id(v): v for layer in layers for v in layer.variables}.values())

    def save(self, folder):
        """Writes `checkpoint/ckpt-0`."""
        module = tf.train.Checkpoint(
            _feature_extractor=tf.train.Checkpoint(_network=self.backbone),
            _prediction_head_dict=self.heads,
            _mask_net=self.mask_net,
        )
        tf.train.Checkpoint(model=module).write(str(folder / "checkpoint" / "ckpt-0"))

    def outputs(self, images):
        """Published head name -> list over stages of [B, h, w, channels]."""
        features = self.backbone(images, training=False)
        return {
            name: [head(feature).numpy() for head, feature in zip(stages, features, strict=True)]
            for name, stages in self.heads.items()
        }

    def mask_logits(self, outputs, boxes, stage):
        """[B, N, S, S] for boxes [B, N, 4]."""
        head, kind = self.config.mask_head, self.config.mask_head.network_type
        pairs = [
            self._mask_head_input(
                outputs["INSTANCE_EMBEDDING"][stage][image], outputs["PIXEL_EMBEDDING"][stage][image], box
            )
            for image in range(len(boxes))
            for box in np.asarray(boxes[image], np.float64)
        ]
        if kind == "embedding_projection":
            logits = [net @ embedding for net, embedding in pairs]
        elif kind.startswith("cond_inst"):
            depth, width = int(kind.removeprefix("cond_inst")), head.num_init_channels
            logits = [conditional(net, embedding, depth, width) for net, embedding in pairs]
        else:
            nets = [net for net, _ in pairs]
            if head.use_instance_embedding:
                nets = [
                    np.concatenate([net, np.broadcast_to(e, [*net.shape[:2], len(e)])], -1)
                    for net, e in pairs
                ]
            logits = self._network(tf.constant(np.array(nets), tf.float32)).numpy()
        return np.reshape(logits, [*boxes.shape[:2], *np.shape(logits)[1:]])

    def probabilities(self, logits, boxes):
        """Mask probabilities in the boxes, [B, N, S, S]."""
        head = self.config.mask_head
        if head.predict_full_resolution_masks:
            height, width = logits.shape[2:]
            resized = tf.image.resize(np.moveaxis(logits, 1, -1), [4 * height, 4 * width]).numpy()
            size = head.postprocess_crop_size
            places = np.ndindex(boxes.shape[:2])
            crops = [crop(resized[image, ..., n], boxes[image, n], size) for image, n in places]
            logits = np.reshape(crops, [*boxes.shape[:2], size, size])
        return sigmoid(logits)

    def _mask_head_input(self, instances, pixels, box):
        head = self.config.mask_head
        height, width = pixels.shape[:2]
        center = (box[:2] + box[2:]) / 2
        row, column = (int(np.floor(c * n)) for c, n in zip(center, (height, width), strict=True))
        if head.predict_full_resolution_masks:
            grid = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
            grid = np.stack(grid, -1) - center
        else:
            pixels = crop(pixels, box, head.mask_size)
            steps = np.linspace(-1, 1, head.mask_size)
            grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1)
        net = np.concatenate([grid, pixels], -1) if head.use_xy else pixels
        return net, instances[row, column]

    def _network(self, net):
        network = self.mask_net._net
        kind = self.config.mask_head.network_type
        if kind == "fully_connected":
            flat = tf.reshape(network.input_layer(net), [len(net), -1])
            return tf.reshape(network.fc2(network.fc1(flat)), net.shape[:3])
        if kind in RESNETS:
            net = network.model(network.input_layer(net), training=False)
        else:
            net = network(net, training=False)[-1]
        return self.mask_net.project_out(net)[..., 0]


def prediction_head(filters, count):
    """A hidden layer and `count` maps."""
    hidden = tf_keras.layers.Conv2D(filters, 3, padding="same")
    return tf_keras.Sequential([hidden, tf_keras.layers.ReLU(), tf_keras.layers.Conv2D(count, 1)])


def resnet(channels, stacks):
    """Pre-activation basic blocks; the first stack of twice the channels, the next of three times."""
    layers = tf_keras.layers
    inputs = net = tf_keras.Input([None, None, channels])
    for width, blocks in zip((2 * channels, 3 * channels), stacks, strict=False):
        for block in range(blocks):
            activated = layers.ReLU()(layers.BatchNormalization(epsilon=EPSILON)(net))
            shortcut = layers.Conv2D(width, 1)(activated) if block == 0 else net
            net = activated
            for _ in range(2):
                net = layers.Conv2D(width, 3, padding="same", use_bias=False)(net)
                net = layers.ReLU()(layers.BatchNormalization(epsilon=EPSILON)(net))
            net = layers.Add()([shortcut, net])
    return tf_keras.Model(inputs, net)


def conditional(net, embedding, depth, channels):
    """Layers whose weights and biases are the embedding."""
    widths = [net.shape[-1], *[channels] * (depth - 1), 1]
    if depth == 1:
        widths = [channels, 1]
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        weights, biases, embedding = np.split(embedding, [inputs * outputs, (inputs + 1) * outputs])
        net = net @ weights.reshape(inputs, outputs) + biases
        net = np.maximum(net, 0) if layer < depth - 1 else net
    return net[..., 0]


def crop(image, box, size):
    """`size` bilinear samples a side between the edges of a box, both included; zero outside."""
    y, x = np.meshgrid(
        np.linspace(box[0], box[2], size) * (image.shape[0] - 1),
        np.linspace(box[1], box[3], size) * (image.shape[1] - 1),
        indexing="ij",
    )
    limits = np.array(image.shape[:2]) - 1
    inside = (y > -1e-5) & (y < limits[0] + 1e-5) & (x > -1e-5) & (x < limits[1] + 1e-5)
    y, x = y.clip(0, limits[0]), x.clip(0, limits[1])
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    bottom, right = np.minimum(top + 1, limits[0]), np.minimum(left + 1, limits[1])
    extra = (...,) + (np.newaxis,) * (image.ndim - 2)
    down, across, inside = (y - top)[extra], (x - left)[extra], inside[extra]
    upper = (1 - across) * image[top, left] + across * image[top, right]
    lower = (1 - across) * image[bottom, left] + across * image[bottom, right]
    return ((1 - down) * upper + down * lower) * inside


def sigmoid(logits):
    """1 / (1 + exp(-logits))."""
    return 1 / (1 + np.exp(-logits))
