"""A training of a tiny model on drawn pictures, small enough to run in seconds, as a configuration file."""

import copy
from pathlib import Path

import synthetic
import tensorflow as tf
import yaml

from deepmac.data.data_sets import read_coco_folder
from deepmac.data.tfrecords import MaskExampleDecoder, write_tfrecords

TINY = {
    "runtime": {"mixed_precision_dtype": "float32"},
    "task": {
        "seed": 0,
        "mask_num_subsamples": 2,
        "model": {
            "input_size": [64, 64, 3],
            "max_num_instances": 4,
            "backbone": {"hourglass": {"input_channel_dims": 4}},
            "head": {"num_filters": 4},
            "mask_head": {"network_type": "hourglass10", "num_init_channels": 4, "mask_size": 16},
        },
    },
    "trainer": {
        **{"train_steps": 4, "steps_per_loop": 2, "summary_interval": 2},
        **{"checkpoint_interval": 2, "validation_interval": 4},
    },
}


def write_config(folder: Path, num_images: int, batch_size: int, shards: int = 3, **train_data) -> Path:
    """Writes pictures, records and a configuration.

    Args:
        folder: where all goes.
        num_images: pictures of either split, with two objects each.
        batch_size: of training and evaluation.
        shards: files of records of either split.
        **train_data: further options of `task.train_data`.

    Returns:
        The YAML file, for the experiment `deepmac_mini`.
    """
    synthetic.write_splits(folder, (64, 64), num_images)
    records = folder / "records"
    write_tfrecords(read_coco_folder(folder), records, num_shards=shards)
    config = copy.deepcopy(TINY)
    sizes = {"global_batch_size": batch_size}
    config["task"] |= {
        "annotation_file": str(records / "instances_val2017.json"),
        "train_data": {"input_path": f"{records}/train2017-*", **sizes, **train_data},
        "validation_data": {"input_path": f"{records}/val2017-*", **sizes},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def decoded_records(out_dir, split):
    """Returns {image id: decoded example}."""
    files = sorted(str(path) for path in out_dir.glob(f"{split}-*.tfrecord"))
    decoder = MaskExampleDecoder()
    return {
        int(example["source_id"]): example for example in map(decoder.decode, tf.data.TFRecordDataset(files))
    }
