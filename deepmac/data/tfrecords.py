"""TFRecords: written from annotations, read in an order that can be resumed, padded, searched for damage."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from official.vision.dataloaders import tf_example_decoder
from pycocotools.coco import COCO
from tqdm.auto import tqdm

from deepmac.core.errors import InputError
from deepmac.core.files import atomic_folder
from deepmac.data.classes import classes_of, write_classes
from deepmac.data.coco import CocoData
from deepmac.data.picture_files import encode_for_records
from deepmac.data.rules import read_points

_FILES_READ_AT_ONCE = 16
_HAS_MASK = "image/object/has_mask"
# As the TF Object Detection API writes them: flat, K of each instance; z is the depth, above 0 on the object.
_POINT_FEATURES = tuple(f"image/object/keypoint/{axis}" for axis in "xyz")
_MIN_IMAGES_FOR_PROCESSES = 200


def write_tfrecords(
    splits: Mapping[str, CocoData], out_dir: str | os.PathLike, num_shards: int | None = None
) -> None:
    """Writes annotations and their pictures as TFRecords, by Model Garden's converter.

    Annotations without a mask have an empty one, and pictures with such annotations the feature
    `image/object/has_mask`, 0 or 1 for each. Pictures that are neither RGB nor grey JPEG, PNG or BMP, or that
    their camera has turned, are encoded anew, as they are annotated. Categories that are not COCO's are
    numbered from 1, as `categories.json` says. Writes `<split>-00000-of-0000N.tfrecord` and, for evaluation,
    `instances_<split>.json` with the same images and annotations. The folder appears when all is complete.

    Args:
        splits: name -> annotations, as from `read_coco_folder`.
        out_dir: folder to write; new or empty.
        num_shards: files per split; None: 8, and one per 400 images of larger splits, up to 256.

    Raises:
        InputError: `out_dir` is not empty, a path is not UTF-8, or splits name a category differently.
    """
    for path in map(str, (out_dir, *(data.image_dir for data in splits.values()))):
        if path.encode("utf-8", "replace").decode() != path:
            raise InputError(f"{path} is not UTF-8, and TensorFlow opens no such folder: rename it")
    level = tf.get_logger().level
    from official.vision.data import create_coco_tf_record, tfrecord_lib  # noqa: F401

    tf.get_logger().setLevel(level)  # the import sets it to INFO for the whole process
    classes = classes_of(splits)
    ids = {entry["file_id"]: entry["id"] for entry in classes}
    names = {entry["id"]: entry["name"] for entry in classes}
    with atomic_folder(out_dir) as folder:
        write_classes(classes, folder)
        for split, data in splits.items():
            images, points = list(data.images.values()), data.most_points()
            entries = [entry | {"category_id": ids[entry["category_id"]]} for entry in data.annotations]
            categories = [category | {"id": ids[category["id"]]} for category in data.categories]
            data = data._replace(categories=categories, annotations=entries)
            annotations = data.annotations_of_images()
            items = ((one, annotations[one["id"]], str(data.image_dir), points, names) for one in images)
            skipped = tfrecord_lib.write_tf_record_dataset(
                str(folder / split),
                tqdm(items, f"Writing {split}", len(images), unit="image", disable=None, leave=False),
                _tf_example,
                num_shards or max(8, min(256, len(images) // 400)),
                multiple_processes=None if len(images) >= _MIN_IMAGES_FOR_PROCESSES else 0,
                unpack_arguments=False,  # streams; otherwise all examples are held in memory
            )
            if skipped:
                raise RuntimeError(f"the converter left out {skipped} checked annotations of {split}")
            with (folder / f"instances_{split}.json").open("w") as file:
                json.dump(data.content(), file)


def _tf_example(item: tuple[dict, list[dict], str, int, dict[int, str]]) -> tuple[tf.train.Example, int]:
    """Converts an image and its annotations; also counts annotations left out.

    `item` is image, annotations, folder of the pictures, points of each object, id -> name of categories.
    """
    from official.vision.data import create_coco_tf_record, tfrecord_lib

    image, annotations, image_dir, num_points, names = item
    example, skipped = create_coco_tf_record.create_tf_example(
        image, [image_dir], bbox_annotations=annotations, id_to_name_map=names
    )
    coco = COCO()
    coco.imgs = {image["id"]: image}
    empty = np.zeros([image["height"], image["width"]], np.uint8)
    has_mask = [bool(annotation["segmentation"]) for annotation in annotations]
    features = example.features.feature
    path = Path(image_dir, image["file_name"])
    if encoded := encode_for_records(path, image["width"], image["height"]):
        features["image/encoded"].bytes_list.value[:] = [encoded]
        features["image/key/sha256"].bytes_list.value[:] = [hashlib.sha256(encoded).hexdigest().encode()]
    for annotation, drawn in zip(annotations, has_mask, strict=True):
        png = tfrecord_lib.encode_mask_as_png(coco.annToMask(annotation) if drawn else empty)
        features["image/object/mask"].bytes_list.value.append(png)
    if not all(has_mask):
        features[_HAS_MASK].int64_list.value.extend(map(int, has_mask))
    if num_points:
        points = np.full((len(annotations), num_points, 3), [np.nan, np.nan, 0.0])  # those that are lacking
        for row, annotation in zip(points, annotations, strict=True):
            found = read_points(annotation)
            row[: len(found)] = found / [image["width"], image["height"], 1]
        for name, values in zip(_POINT_FEATURES, points.reshape(-1, 3).T, strict=True):
            features[name].float_list.value.extend(values)
    return example, skipped


def record_files(input_path) -> list[str]:
    """Files that match `input_path`, a pattern, several with commas, or a list of them."""
    patterns = input_path if isinstance(input_path, (list, tuple)) else input_path.split(",")
    return [name for pattern in patterns if pattern.strip() for name in tf.io.gfile.glob(pattern.strip())]


def reproducible_records(
    files: Sequence[str],
    buffer_size: int,
    seed: int,
    start: int = 0,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Endless records in an order that depends on the seed alone.

    In every epoch, files are shuffled, and records in blocks of `buffer_size`. Nothing has to be saved to
    resume: the position says all.

    Args:
        files: TFRecord files.
        buffer_size: records shuffled together.
        seed: of order and seeds.
        start: records that were read before, in this input pipeline; they are read over.
        context: shares the files, or if there are too few the records, among input pipelines.

    Returns:
        Dataset of (seed int32 [2], serialised example); the seed depends on the position alone.

    Raises:
        InputError: the files hold no records.
    """
    pipelines = context.num_input_pipelines if context else 1
    pipeline = context.input_pipeline_id if context else 0
    files = sorted(files)
    share_files = len(files) >= pipelines
    names = tf.constant(files[pipeline::pipelines] if share_files else files)

    def records(names):
        dataset = tf.data.Dataset.from_tensor_slices(names).interleave(
            tf.data.TFRecordDataset,
            cycle_length=min(_FILES_READ_AT_ONCE, len(files)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return dataset if share_files else dataset.shard(pipelines, pipeline)

    root = tf.constant([seed, pipeline], tf.int32)
    order_seed, record_seed = tf.unstack(tf.random.split(root))

    def epoch(number):
        epoch_seed = tf.random.fold_in(order_seed, number)
        shuffled = tf.random.experimental.stateless_shuffle(names, epoch_seed)

        def shuffle(index, block):
            return tf.random.experimental.stateless_shuffle(block, tf.random.fold_in(epoch_seed, index + 1))

        return records(shuffled).batch(buffer_size).prefetch(1).enumerate().map(shuffle).unbatch()

    first_epoch = passed = 0
    if start:
        count = int(records(names).reduce(tf.constant(0, tf.int64), lambda total, _: total + 1))
        if not count:
            raise InputError(f"no records in {files[0]} and {len(files) - 1} other files")
        first_epoch, passed = divmod(start, count)
    dataset = tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch)
    dataset = dataset.skip(passed).enumerate(start)
    return dataset.map(lambda index, record: (tf.random.fold_in(record_seed, index), record))


def padded_batches(global_batch_size: int) -> Callable[..., tf.data.Dataset]:
    """For `InputReader`: full batches for every replica; examples without picture fill the last ones.

    Shapes stay static, as TPUs need, and no replica is left without a batch. The padding has `source_id`
    -1, no objects, and no part of its image is valid.

    Returns:
        Function of (dataset of parsed examples, input context or None) -> batched dataset.
    """

    def transform(dataset, context):
        batch_size = context.get_per_replica_batch_size(global_batch_size) if context else global_batch_size
        replicas = context.num_replicas_in_sync // context.num_input_pipelines if context else 1
        empty = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), dataset.element_spec)
        empty[1]["groundtruths"]["source_id"] -= 1
        padding = tf.data.Dataset.from_tensors(empty).repeat(batch_size * replicas - 1)
        batches = dataset.concatenate(padding).batch(batch_size, drop_remainder=True)
        return batches.batch(replicas, drop_remainder=True).unbatch()

    return transform


def find_damage(files: Sequence[str], decode: Callable) -> str | None:
    """Looks for the first record of TFRecord files that cannot be read, or that `decode` refuses.

    Returns:
        "FILE: record NUMBER: reason", counted from 0; None if there is none.
    """
    for name in sorted(files):
        number = -1  # of the last record read
        try:
            for number, record in enumerate(tf.data.TFRecordDataset(name)):  # noqa: B007
                decode(record)
        except tf.errors.OpError as error:
            if isinstance(error, tf.errors.DataLossError):  # the next one could not be read
                number += 1
            return f"{name}: record {number}: {error.message.splitlines()[0]}"
    return None


class MaskExampleDecoder(tf_example_decoder.TfExampleDecoder):
    """Model Garden's decoder, with masks as PNG strings, and with points.

    An image has up to a hundred masks and training uses a few: the parser decodes those it has chosen.
    """

    def __init__(self, num_keypoints: int = 0):
        """Args: num_keypoints: points of an instance, K."""
        super().__init__(include_mask=True)
        self._num_keypoints = num_keypoints
        self._keys_to_features[_HAS_MASK] = tf.io.VarLenFeature(tf.int64)

    def decode(self, serialized_example: tf.Tensor) -> dict[str, tf.Tensor]:
        """Decodes one serialised `tf.Example`.

        Returns:
            As `TfExampleDecoder.decode`: `source_id`, `image` uint8 RGB [H, W, 3], `height`, `width`,
            `groundtruth_classes` int64 [n], `groundtruth_boxes` float32 [n, 4] normalised (ymin, xmin,
            ymax, xmax), `groundtruth_area`, `groundtruth_is_crowd`; and `groundtruth_instance_masks_png`
            string [n], empty for boxes without a mask, but no `groundtruth_instance_masks`. With K > 0,
            `groundtruth_keypoints` float32 [n, K, 2] normalised (y, x), NaN where not annotated, and
            `groundtruth_keypoint_depths` float32 [n, K].
        """
        decoded = super().decode(serialized_example)
        decoded["groundtruth_instance_masks_png"] = decoded.pop("groundtruth_instance_masks")
        if self._num_keypoints:
            num_instances = tf.shape(decoded["groundtruth_classes"])[0]
            decoded |= self._decode_points(serialized_example, num_instances)
        return decoded

    def _decode_masks(self, parsed_tensors):
        pngs, has_mask = parsed_tensors["image/object/mask"], parsed_tensors[_HAS_MASK]
        return tf.cond(tf.size(has_mask) > 0, lambda: tf.where(has_mask > 0, pngs, ""), lambda: pngs)

    def _decode_points(self, serialized_example, num_instances):
        features = dict.fromkeys(_POINT_FEATURES, tf.io.VarLenFeature(tf.float32))
        parsed = tf.io.parse_single_example(serialized_example, features)
        x, y, depths = parts = [tf.sparse.to_dense(parsed[name]) for name in _POINT_FEATURES]
        shape = [num_instances, self._num_keypoints]
        message = (
            f"the records do not hold {self._num_keypoints} points for every instance, as "
            "task.train_data.num_keypoints says: write them with `deepmac tfrecord`, which says how many"
        )
        checks = [tf.debugging.assert_equal(tf.size(part), shape[0] * shape[1], message) for part in parts]
        with tf.control_dependencies(checks):
            return {
                "groundtruth_keypoints": tf.reshape(tf.stack([y, x], axis=-1), [*shape, 2]),
                "groundtruth_keypoint_depths": tf.reshape(depths, shape),
            }


def without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Lets TensorFlow choose once, not again and again, how many records are read side by side.

    The thread that chooses again sleeps for up to a minute, and whoever deletes an iterator waits for it: the
    wake-up call often gets lost. So a third of all trainings, and some evaluations, ended half a minute late.

    Returns the same elements; `AUTOTUNE` then stands for the number of threads, at most 16.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
