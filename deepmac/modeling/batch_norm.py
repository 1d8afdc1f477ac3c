"""Batch normalisation as configured, in every layer."""

import tf_keras

# No subclass of each other: backbone and mask heads use the first and the second.
_LAYER_TYPES = (tf_keras.layers.BatchNormalization, tf_keras.layers.experimental.SyncBatchNormalization)


def configure_batch_norm(model, momentum: float, synchronized: bool):
    """Gives every batch-norm layer of a built model the same momentum and kind of statistics.

    Model Garden's hourglass blocks pass neither on to their inner blocks, which therefore always have
    momentum 0.1 and statistics over all replicas. Those are computed by a chain of small operations;
    on a single device the fused kernel does the same 1.7 times faster (the whole training step).

    Args:
        model: a `tf.Module` whose variables exist.
        momentum: moving = momentum * moving + (1 - momentum) * batch.
        synchronized: whether statistics are taken over all replicas.
    """
    for layer in model.submodules:
        if isinstance(layer, _LAYER_TYPES):
            layer.momentum = momentum
            layer.synchronized = synchronized
            layer.fused = not synchronized
            layer._data_format = "NHWC"  # what `build` sets for the fused kernel only
