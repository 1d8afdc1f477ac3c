"""The graphs of an export: the whole model as published, and its two halves for interactive use."""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from deepmac import configs
from deepmac.data.preprocessing import normalize
from deepmac.export.published import published_outputs
from deepmac.inference.exported import INPUTS, SIGNATURE
from deepmac.inference.load import normalization
from deepmac.modeling.model import DeepMACModel

_IN_SQUARE = "normalised to the square network input"
_IN_PICTURE = "normalised to the picture"
_BOX = "(ymin, xmin, ymax, xmax)"


@dataclasses.dataclass(frozen=True)
class Graph:
    """A function to export, batch first.

    Attributes:
        name: of the file or signature.
        function: with an input signature; named arguments in, a dict of tensors out.
        meanings: input or output name -> what it is.
    """

    name: str
    function: tf.types.experimental.PolymorphicFunction
    meanings: Mapping[str, str]

    @property
    def inputs(self) -> dict[str, tf.TensorSpec]:
        """Name -> shape and dtype."""
        return {spec.name: spec for spec in self.function.input_signature}

    @property
    def outputs(self) -> dict[str, tf.TensorSpec]:
        """Name -> shape and dtype."""
        return self.function.get_concrete_function().structured_outputs


def encoder_graph(model: DeepMACModel, config: configs.DeepMACTaskConfig) -> Graph:
    """From a picture of the network's size to embeddings; see `export_model`."""
    options = normalization(config)

    def encode(image):
        instance_embedding, pixel_embedding = model.encode(normalize(image, **options))
        return {"instance_embedding": instance_embedding, "pixel_embedding": pixel_embedding}

    signature = [tf.TensorSpec([1, *config.model.input_size], name="image")]
    return Graph(
        "encoder",
        tf.function(encode, input_signature=signature, autograph=False),
        {
            "image": "RGB from 0 to 255, the picture's longer side resized to the side of the square; zeros "
            "below or to the right",
            "instance_embedding": "for the mask head",
            "pixel_embedding": "for the mask head",
        },
    )


def mask_head_graph(model: DeepMACModel, config: configs.DeepMACTaskConfig) -> Graph:
    """From embeddings and boxes to masks; see `export_model`."""

    def predict(instance_embedding, pixel_embedding, boxes):
        logits = model.mask_logits(instance_embedding, pixel_embedding, boxes)
        mask_probs = model.probabilities_in_boxes(logits, boxes)
        mask_probs.set_shape([1, None, None, None])
        return {"mask_probs": mask_probs}

    embeddings = encoder_graph(model, config).outputs
    signature = [tf.TensorSpec(output.shape, output.dtype, name) for name, output in embeddings.items()]
    signature.append(tf.TensorSpec([1, None, 4], name="boxes"))
    return Graph(
        "mask_head",
        tf.function(predict, input_signature=signature, autograph=False),
        {
            "instance_embedding": "from the encoder",
            "pixel_embedding": "from the encoder",
            "boxes": f"{_BOX} {_IN_SQUARE}; any number of boxes from 1",
            "mask_probs": "probabilities inside each box, edge to edge",
        },
    )


def whole_graph(model: DeepMACModel, config: configs.DeepMACTaskConfig) -> Graph:
    """From pictures of any size and boxes to masks and detections; see `export_model`."""

    def serve(input_tensor, boxes):
        return published_outputs(model, config, input_tensor, boxes)

    signature = [
        tf.TensorSpec([None, None, None, 3], tf.uint8, INPUTS[0]),
        tf.TensorSpec([None, None, 4], tf.float32, INPUTS[1]),
    ]
    return Graph(
        SIGNATURE,
        tf.function(serve, input_signature=signature, autograph=False),
        {
            "input_tensor": "RGB pictures of any size",
            "boxes": f"{_BOX} {_IN_PICTURE}",
            "detection_masks": "probabilities inside the given boxes",
            "detection_boxes": f"objects the model finds by itself: {_BOX} {_IN_PICTURE}",
            "detection_boxes_strided": "the same boxes in cells of the feature map",
            "detection_scores": "their scores",
            "detection_classes": "their category ids",
            "detection_multiclass_scores": "scores of all classes",
            "num_detections": "how many they are",
        },
    )
