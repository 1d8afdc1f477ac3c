"""CenterNet's prediction heads with the two embedding heads of DeepMAC."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras
from official.projects.centernet.modeling.layers import cn_nn_blocks

# Heads that regress coordinates: bfloat16 holds 8 bits, too few for offsets and sizes.
_REGRESSION_HEADS = ("ct_offset", "ct_size")


class PredictionHead(cn_nn_blocks.CenterNetHeadConv):
    """Conv 3x3 + ReLU + conv 1x1 of a given hidden width.

    Model Garden's head is as wide as the feature map; the published one has a width of its own.
    """

    def __init__(self, num_filters: int, output_dtype: str | None = None, **kwargs):
        """Args: num_filters: hidden width; output_dtype: dtype of the 1x1 conv, None for the policy's."""
        super().__init__(**kwargs)
        self._num_filters = num_filters
        self._output_dtype = output_dtype

    def build(self, input_shape):
        self.conv1 = tf_keras.layers.Conv2D(self._num_filters, 3, padding="same")
        self.relu = tf_keras.layers.ReLU()
        self.conv2 = tf_keras.layers.Conv2D(
            self._output_filters,
            1,
            bias_initializer=tf.constant_initializer(self._bias_init),
            dtype=self._output_dtype,
        )
        self.built = True

    def get_config(self):
        return {
            **super().get_config(),
            "num_filters": self._num_filters,
            "output_dtype": self._output_dtype,
        }


class PredictionHeads(tf_keras.layers.Layer):
    """One `PredictionHead` for every output and hourglass stage."""

    def __init__(
        self,
        task_outputs: Mapping[str, int],
        input_levels: Sequence[str],
        num_filters: int,
        heatmap_bias: float,
        **kwargs,
    ):
        """Creates the heads.

        Args:
            task_outputs: head name -> output channels.
            input_levels: feature levels of the backbone, one a stage, the last stage last.
            num_filters: hidden width of every head.
            heatmap_bias: initial bias of the centre heat map.
        """
        super().__init__(**kwargs)
        self.input_levels = list(input_levels)
        self.heads = {
            name: [
                PredictionHead(
                    num_filters,
                    output_filters=channels,
                    bias_init=heatmap_bias if name == "ct_heatmaps" else 0,
                    output_dtype="float32" if name in _REGRESSION_HEADS else None,
                    name=f"{name}{level}",
                )
                for level in self.input_levels
            ]
            for name, channels in task_outputs.items()
        }

    def call(self, features):
        """Applies every head to every stage.

        Args:
            features: level -> float [B, H, W, C].

        Returns:
            Head name -> list over stages of [B, H, W, channels].
        """
        return {
            name: [head(features[level]) for head, level in zip(stages, self.input_levels, strict=True)]
            for name, stages in self.heads.items()
        }

    def last_stage(self, features, names: Sequence[str]):
        """Applies only the named heads of the last stage: name -> [B, H, W, channels]."""
        return {name: self.heads[name][-1](features[self.input_levels[-1]]) for name in names}
