"""Order, resumption, sharing, padding and damage of record streams, on small files of numbers."""

import numpy as np
import pytest
import tensorflow as tf

from deepmac.core.errors import InputError
from deepmac.data import tfrecords

COUNT = 23


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three files that hold the numbers 0 to 22 as text."""
    folder = tmp_path_factory.mktemp("records")
    for shard in range(3):
        with tf.io.TFRecordWriter(str(folder / f"part-{shard}.tfrecord")) as writer:
            for number in range(shard, COUNT, 3):
                writer.write(str(number).encode())
    return sorted(str(path) for path in folder.glob("*.tfrecord"))


def read(files, count, **options):
    stream = tfrecords.reproducible_records(files, **({"buffer_size": 6, "seed": 1} | options))
    return [(tuple(seed), int(text)) for seed, text in stream.take(count).as_numpy_iterator()]


def test_an_epoch_has_every_record_once_and_the_next_another_order(files):
    numbers = [number for _, number in read(files, 2 * COUNT)]
    assert sorted(numbers[:COUNT]) == sorted(numbers[COUNT:]) == list(range(COUNT))
    assert numbers[:COUNT] != numbers[COUNT:] and numbers[:COUNT] != sorted(numbers)


@pytest.mark.parametrize("start", [1, 5, COUNT, COUNT + 4, 2 * COUNT + 1])
def test_resumes_anywhere_with_the_same_records_and_seeds(files, start):
    assert read(files, 10, start=start) == read(files, start + 10)[start:]


def test_seed_decides_order_and_seeds_of_records(files):
    first, again, other = read(files, 20), read(files, 20), read(files, 20, seed=2)
    assert first == again and first != other
    assert len({seed for seed, _ in first}) == 20


@pytest.mark.parametrize("shards", [3, 1])
def test_pipelines_share_the_records(files, shards):
    parts = []
    for pipeline in range(2):
        context = tf.distribute.InputContext(2, pipeline, num_replicas_in_sync=2)
        # Of a single file, the records are shared.
        numbers = [number for _, number in read(files[:shards], 3 * COUNT, context=context)]
        parts.append(set(numbers))
    held = {number for number in range(COUNT) if number % 3 < shards}
    assert parts[0] | parts[1] == held and not parts[0] & parts[1]


def test_no_records_is_an_input_error(tmp_path):
    path = str(tmp_path / "empty.tfrecord")
    tf.io.TFRecordWriter(path).close()
    with pytest.raises(InputError, match=r"no records in .*empty\.tfrecord"):
        tfrecords.reproducible_records([path], 4, 0, start=3)


@pytest.mark.parametrize(("count", "replicas", "batches"), [(5, 1, 2), (8, 1, 2), (9, 2, 4), (1, 4, 4)])
def test_last_batches_are_padded_for_every_replica(count, replicas, batches):
    def example(number):
        return {"image": tf.fill([2], 1.0)}, {"groundtruths": {"source_id": number}, "classes": tf.ones([3])}

    context = tf.distribute.InputContext(1, 0, num_replicas_in_sync=replicas)
    transform = tfrecords.padded_batches(4 * replicas)
    result = list(transform(tf.data.Dataset.range(count).map(example), context))
    assert len(result) == batches
    ids = np.concatenate([labels["groundtruths"]["source_id"] for _, labels in result])
    assert ids.tolist() == [*range(count), *[-1] * (4 * batches - count)]
    features, labels = result[-1]
    padding = labels["groundtruths"]["source_id"] < 0
    assert not np.any(features["image"][padding]) and not np.any(labels["classes"][padding])
    assert features["image"].shape == (4, 2)


def test_damage_is_found_where_it_is(files, tmp_path):
    decode = tf.strings.to_number
    assert tfrecords.find_damage(files, decode) is None
    data = bytearray(tf.io.gfile.GFile(files[0], "rb").read())
    data[17 * 2 + 12] ^= 1  # each record of one digit takes 17 bytes, 12 before its data
    broken = tmp_path / "broken.tfrecord"
    broken.write_bytes(data)
    assert tfrecords.find_damage([str(broken)], decode).startswith(f"{broken}: record 2: ")
    with tf.io.TFRecordWriter(str(broken)) as writer:
        writer.write(b"1")
        writer.write(b"no number")
    assert tfrecords.find_damage([str(broken)], decode).startswith(f"{broken}: record 1: ")
