"""Trains a tiny model for ten steps on one device and on two; prints the largest differences as JSON.

In float64: in float32 rounding, which differs when sums are split, decides on which side of 0 some
activations fall, and so whether they have a gradient.
"""

import json
import sys

import numpy as np
import tensorflow as tf
import tf_keras
import yaml

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from official.core import exp_factory  # noqa: E402  # devices first

from deepmac import configs  # noqa: E402, F401  # registers the experiment
from deepmac.training.task import DeepMACTask  # noqa: E402

STEPS = 10


def half(batch, replica):
    """The first or second half of every tensor of a batch."""
    return tf.nest.map_structure(lambda x: tf.split(x, 2)[replica], batch)


def train(config, strategy, batches):
    tf_keras.utils.set_random_seed(0)
    with strategy.scope():
        task = DeepMACTask(config)
        model = task.build_model()
        optimizer = tf_keras.optimizers.SGD(2e-3)
        optimizer.build(model.trainable_variables)
    before = [variable.numpy() for variable in model.trainable_variables]

    @tf.function
    def step(batch):
        losses = strategy.run(lambda b: task.train_step(b, model, optimizer)["loss"], args=(batch,))
        return strategy.reduce("MEAN", losses, axis=None)

    losses = []
    for batch in batches:
        if strategy.num_replicas_in_sync > 1:
            batch = strategy.experimental_distribute_values_from_function(
                lambda context, batch=batch: half(batch, context.replica_id_in_sync_group)
            )
        losses.append(float(step(batch)))
    change = max(np.abs(a - b.numpy()).max() for a, b in zip(before, model.trainable_variables, strict=True))
    return np.array(losses), [variable.numpy() for variable in model.variables], float(change)


tf_keras.mixed_precision.set_global_policy("float64")
with open(sys.argv[1]) as file:  # noqa: PTH123
    overrides = yaml.safe_load(file)
config = exp_factory.get_exp_config("deepmac_mini")
config.override(overrides, is_strict=True)
task_config = config.task
task_config.override({"gradient_clip_norm": 0.0, "model": {"norm_activation": {"use_sync_bn": True}}})
batches = list(DeepMACTask(task_config).build_inputs(task_config.train_data).take(STEPS))
# Of the one-coloured areas of drawn pictures, batch norm makes ties at 0, which rounding decides.
rng = np.random.default_rng(0)
for features, _ in batches:
    features["image"] = tf.constant(rng.normal(size=features["image"].shape), tf.float64)
one = train(task_config, tf.distribute.OneDeviceStrategy("CPU:0"), batches)
# Other reductions pack gradients, which are not all of one type here: losses are float32.
reduction = tf.distribute.ReductionToOneDevice()
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=reduction)
two = train(task_config, mirrored, batches)
print(
    json.dumps(
        {
            "loss": float(np.abs(one[0] / two[0] - 1).max()),
            "weight": float(max(np.abs(a - b).max() for a, b in zip(one[1], two[1], strict=True))),
            "change": one[2],
        }
    )
)
