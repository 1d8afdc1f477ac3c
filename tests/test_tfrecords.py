import json

import command_line
import numpy as np
import pytest
import tensorflow as tf
from official.vision.dataloaders.tf_example_decoder import TfExampleDecoder
from PIL import Image
from pycocotools.coco import COCO
from synthetic import draw_scene, run_lengths, save_annotations, write_coco, write_three_pictures
from tiny_training import decoded_records

from deepmac.core.errors import InputError
from deepmac.core.images import read_image
from deepmac.data import tfrecords
from deepmac.data.classes import classes_of, read_classes
from deepmac.data.data_sets import read_coco_folder, read_image_ids
from deepmac.data.tfrecords import MaskExampleDecoder, write_tfrecords

SPLIT = "val2017"


@pytest.fixture
def folder(tmp_path):
    """A COCO folder of three pictures with 3, 2 and 0 objects, and its annotations."""
    return tmp_path / "coco", write_three_pictures(tmp_path / "coco", SPLIT)


def as_other_files(folder, save):
    """Saves the pictures of a COCO folder anew; `save` takes a picture and a path without suffix."""
    coco_dir, content = folder
    for image in content["images"]:
        path = coco_dir / SPLIT / image["file_name"]
        with Image.open(path) as picture:
            picture.load()
        path.unlink()
        save(picture, path.with_suffix(""))
        image["file_name"] = path.stem
    save_annotations(coco_dir, SPLIT, content)


def sixteen_bits(picture, path):
    Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257).save(f"{path}.png")


def turned(picture, path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    picture.transpose(Image.Transpose.ROTATE_90).save(f"{path}.jpg", quality=95, exif=exif)


FORMATS = {
    "WebP": lambda picture, path: picture.save(f"{path}.webp", lossless=True),
    "BMP": lambda picture, path: picture.save(f"{path}.bmp"),
    "RGBA": lambda picture, path: picture.convert("RGBA").save(f"{path}.png"),
    "CMYK": lambda picture, path: picture.convert("CMYK").save(f"{path}.jpg", quality=95),
    "palette": lambda picture, path: picture.convert("P").save(f"{path}.png"),
    "16 bit": sixteen_bits,
    "wrong suffix": lambda picture, path: picture.save(f"{path}.jpg", "PNG"),
    "turned": turned,
}


@pytest.mark.parametrize("save", FORMATS.values(), ids=FORMATS)
def test_pictures_of_any_format_are_in_the_records_as_they_are_seen(folder, tmp_path, save):
    as_other_files(folder, save)
    data = read_coco_folder(folder[0], [SPLIT])[SPLIT]
    write_tfrecords({SPLIT: data}, tmp_path / "records", num_shards=1)
    examples = decoded_records(tmp_path / "records", SPLIT)
    for image_id, image in data.images.items():
        seen = read_image(data.image_dir / image["file_name"])
        assert seen.shape == (image["height"], image["width"], 3)
        assert np.abs(examples[image_id]["image"].numpy().astype(int) - seen).mean() < 4  # of JPEG


def test_a_picture_annotated_as_it_is_stored_stays_so(folder, tmp_path):
    def save(picture, path):
        exif = Image.Exif()
        exif[0x0112] = 8
        picture.save(f"{path}.jpg", quality=95, exif=exif)

    as_other_files(folder, save)
    data = read_coco_folder(folder[0], [SPLIT])
    write_tfrecords(data, tmp_path / "records", num_shards=1)
    for image_id, example in decoded_records(tmp_path / "records", SPLIT).items():
        image = data[SPLIT].images[image_id]
        stored = read_image(folder[0] / SPLIT / image["file_name"], upright=image["width"] == image["height"])
        assert np.abs(example["image"].numpy().astype(int) - stored).mean() < 4


def assert_records_hold(out_dir, split, annotation_file, image_dir):
    """Compares records with pycocotools' reading of the annotations, instance by instance."""
    coco = COCO(annotation_file)
    examples = decoded_records(out_dir, split)
    assert sorted(examples) == sorted(coco.imgs)
    for image_id, example in examples.items():
        info = coco.imgs[image_id]
        assert (example["height"], example["width"]) == (info["height"], info["width"])
        stored = tf.io.decode_image((image_dir / info["file_name"]).read_bytes(), channels=3)
        np.testing.assert_array_equal(example["image"], stored)
        annotations = coco.imgToAnns[image_id]
        assert len(annotations) == len(example["groundtruth_classes"])
        for index, annotation in enumerate(annotations):
            assert example["groundtruth_classes"][index] == annotation["category_id"]
            assert example["groundtruth_is_crowd"][index] == bool(annotation["iscrowd"])
            np.testing.assert_allclose(example["groundtruth_area"][index], annotation["area"], rtol=1e-6)
            box = example["groundtruth_boxes"][index] * np.tile([info["height"], info["width"]], 2)
            x, y, width, height = annotation["bbox"]
            np.testing.assert_allclose(box, [y, x, y + height, x + width], atol=1e-3)
            if not annotation.get("segmentation"):
                assert example["groundtruth_instance_masks_png"][index] == b""
                continue
            mask = tf.io.decode_png(example["groundtruth_instance_masks_png"][index])[..., 0]
            np.testing.assert_array_equal(mask, coco.annToMask(annotation))


@pytest.mark.parametrize("least_for_processes", [1, 1000])
def test_records_hold_the_annotations(folder, tmp_path, monkeypatch, least_for_processes):
    monkeypatch.setattr(tfrecords, "_MIN_IMAGES_FOR_PROCESSES", least_for_processes)
    coco_dir, content = folder
    write_tfrecords(read_coco_folder(coco_dir, [SPLIT]), tmp_path / "out", num_shards=2)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    shards = {f"{SPLIT}-00000-of-00002.tfrecord", f"{SPLIT}-00001-of-00002.tfrecord"}
    assert names == {f"instances_{SPLIT}.json", "categories.json"} | shards
    source = coco_dir / "annotations" / f"instances_{SPLIT}.json"
    assert_records_hold(tmp_path / "out", SPLIT, source, coco_dir / SPLIT)
    assert json.loads((tmp_path / "out" / f"instances_{SPLIT}.json").read_text()) == content


@pytest.mark.parametrize(("form", "crowd"), [("polygons", 0), ("run lengths", 1), ("compressed", 0)])
def test_every_form_of_mask_is_converted(folder, tmp_path, form, crowd):
    coco_dir, content = folder
    mask = np.zeros((40, 30), bool)
    mask[0:9, 0:7] = mask[20:33, 11:20] = True  # the first run has no zeros
    first = content["annotations"][0]
    polygons = [[0, 0, 7, 0, 7, 9, 0, 9], [11, 20, 20, 20, 20, 33, 11, 33]]
    forms = {
        "polygons": polygons,
        "run lengths": run_lengths(mask, False),
        "compressed": run_lengths(mask, True),
    }
    first |= {"segmentation": forms[form], "iscrowd": crowd}
    save_annotations(coco_dir, SPLIT, content)
    write_tfrecords(read_coco_folder(coco_dir, [SPLIT]), tmp_path / "out")
    example = decoded_records(tmp_path / "out", SPLIT)[100]
    np.testing.assert_array_equal(
        tf.io.decode_png(example["groundtruth_instance_masks_png"][0])[..., 0], mask
    )
    assert example["groundtruth_is_crowd"].numpy().tolist() == [bool(crowd), False, False]


def test_boxes_without_a_mask_stay_boxes(folder, tmp_path):
    coco_dir, content = folder
    content["annotations"][1]["segmentation"] = []
    save_annotations(coco_dir, SPLIT, content)
    write_tfrecords(read_coco_folder(coco_dir, [SPLIT]), tmp_path / "out", num_shards=1)
    examples = decoded_records(tmp_path / "out", SPLIT)
    assert [len(png) > 0 for png in examples[100]["groundtruth_instance_masks_png"].numpy()] == [1, 0, 1]
    assert examples[100]["groundtruth_boxes"].shape == (3, 4)
    assert all(len(png) for png in examples[101]["groundtruth_instance_masks_png"].numpy())
    # Readers that know nothing of it find an empty mask.
    (path,) = (tmp_path / "out").glob("*.tfrecord")
    for record in tf.data.TFRecordDataset(str(path)):
        example = tf.train.Example.FromString(record.numpy()).features.feature
        has_mask = list(example["image/object/has_mask"].int64_list.value)
        masks = TfExampleDecoder(include_mask=True).decode(record)["groundtruth_instance_masks"]
        drawn = masks.numpy().any(axis=(1, 2)).tolist()
        assert has_mask == ([1, 0, 1] if len(drawn) == 3 else [])
        assert drawn == (has_mask or [True] * len(drawn))


def test_records_number_the_categories_of_other_data_sets_from_1(folder, tmp_path):
    coco_dir, content = folder
    content["categories"] = [{"id": 9, "name": "nut"}, {"id": 0, "name": "bolt"}, {"id": 4, "name": "gear"}]
    for annotation, category_id in zip(content["annotations"], [0, 9, 9, 0, 9], strict=True):
        annotation["category_id"] = category_id
    content["annotations"][1]["segmentation"] = None
    save_annotations(coco_dir, SPLIT, content)
    write_tfrecords(read_coco_folder(coco_dir, [SPLIT]), tmp_path / "out")
    examples = decoded_records(tmp_path / "out", SPLIT)
    assert examples[100]["groundtruth_classes"].numpy().tolist() == [1, 3, 3]
    assert examples[101]["groundtruth_classes"].numpy().tolist() == [1, 3]
    classes = read_classes(tmp_path / "out")
    found = [
        (one["id"], one["file_id"], one["name"], one["boxes"][SPLIT], one["masks"][SPLIT]) for one in classes
    ]
    assert found == [(1, 0, "bolt", 2, 2), (2, 4, "gear", 0, 0), (3, 9, "nut", 3, 2)]
    written = json.loads((tmp_path / "out" / f"instances_{SPLIT}.json").read_text())
    assert [annotation["category_id"] for annotation in written["annotations"]] == [1, 3, 3, 1, 3]
    assert {one["id"]: one["name"] for one in written["categories"]} == {1: "bolt", 2: "gear", 3: "nut"}


def test_splits_must_name_categories_alike(folder):
    data = read_coco_folder(folder[0], [SPLIT])[SPLIT]
    other = data._replace(categories=[{"id": 18, "name": "hound"}])
    with pytest.raises(InputError, match="category 18 is 'hound', but another split calls it 'dog'"):
        classes_of({"train": data, "val": other})


def test_real_coco_round_trip(coco_dir, tmp_path):
    source = coco_dir / "annotations" / f"instances_{SPLIT}.json"
    content = json.loads(source.read_text())
    crowded = {annotation["image_id"] for annotation in content["annotations"] if annotation["iscrowd"]}
    bare = {image["id"] for image in content["images"]}
    bare -= {annotation["image_id"] for annotation in content["annotations"]}
    ids = {*sorted(crowded)[:3], *sorted(bare)[:1], *(image["id"] for image in content["images"][:8])}
    data = read_coco_folder(coco_dir, [SPLIT], ids)
    assert not data[SPLIT].repairs
    write_tfrecords(data, tmp_path / "out", num_shards=3)
    written = tmp_path / "out" / f"instances_{SPLIT}.json"
    assert_records_hold(tmp_path / "out", SPLIT, written, coco_dir / SPLIT)
    rewritten = json.loads(written.read_text())
    assert {image["id"] for image in rewritten["images"]} == ids
    kept = [annotation for annotation in content["annotations"] if annotation["image_id"] in ids]
    assert rewritten["annotations"] == kept and rewritten["categories"] == content["categories"]


def test_nothing_appears_when_writing_fails(folder, tmp_path, monkeypatch):
    coco_dir, _ = folder
    monkeypatch.setattr(
        "deepmac.data.tfrecords.json.dump", lambda *_: (_ for _ in ()).throw(OSError("disk full"))
    )
    before = set(tmp_path.iterdir())
    with pytest.raises(OSError, match="disk full"):
        write_tfrecords(read_coco_folder(coco_dir, [SPLIT]), tmp_path / "out")
    assert set(tmp_path.iterdir()) == before


def test_command_writes_both_splits_and_reports(folder, tmp_path):
    coco_dir, _ = folder
    write_coco(tmp_path / "train", "train2017", [draw_scene(20, 20, 2, 3)], [1])
    (tmp_path / "train" / "train2017").rename(coco_dir / "train2017")
    annotations = "annotations/instances_train2017.json"
    (tmp_path / "train" / annotations).rename(coco_dir / annotations)
    result = command_line.run("tfrecord", "--coco-dir", coco_dir, "--out", tmp_path / "out", "--shards", 2)
    assert "3 images, 5 annotations" in result.stdout and "1 images, 2 annotations" in result.stdout
    assert len(list((tmp_path / "out").glob("*-of-00002.tfrecord"))) == 4
    assert len(decoded_records(tmp_path / "out", "train2017")) == 1

    # Of files, pictures for validation are drawn.
    file, out = coco_dir / "annotations" / f"instances_{SPLIT}.json", tmp_path / "drawn"
    arguments = ["tfrecord", "--annotations", file, "--images", coco_dir / SPLIT, "--out", out]
    result = command_line.run(*arguments, "--val-fraction", 0.4)
    assert result.stdout.endswith(f"Wrote train, val to {out}\n")
    assert [len(decoded_records(out, split)) for split in ("train", "val")] == [2, 1]
    assert "--images DIR" in command_line.refused(*arguments[:3], "--out", tmp_path / "none")


@pytest.mark.parametrize("text", ["100", "[100]"])
def test_ids_restrict_images_and_annotations(folder, tmp_path, text):
    coco_dir, content = folder
    (coco_dir / SPLIT / content["images"][1]["file_name"]).write_bytes(b"garbage")  # of no concern
    (tmp_path / "ids").write_text(text)
    ids = read_image_ids(tmp_path / "ids")
    write_tfrecords(read_coco_folder(coco_dir, [SPLIT], ids), tmp_path / "out")
    assert list(decoded_records(tmp_path / "out", SPLIT)) == [100]
    rewritten = json.loads((tmp_path / "out" / f"instances_{SPLIT}.json").read_text())
    assert rewritten["images"] == content["images"][:1]
    assert rewritten["annotations"] == content["annotations"][:3]


@pytest.fixture
def drawn_records(folder, tmp_path):
    write_tfrecords(read_coco_folder(folder[0], [SPLIT]), tmp_path / "records", num_shards=1)
    (path,) = (tmp_path / "records").glob("*.tfrecord")
    return list(tf.data.TFRecordDataset(str(path)))


def test_decodes_as_model_garden_but_for_the_masks(drawn_records):
    for record in drawn_records:
        decoded = MaskExampleDecoder().decode(record)
        expected = TfExampleDecoder(include_mask=True).decode(record)
        masks = expected.pop("groundtruth_instance_masks")
        assert decoded.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(decoded[name], value)
        for png, mask in zip(decoded["groundtruth_instance_masks_png"], masks, strict=True):
            np.testing.assert_array_equal(tf.io.decode_png(png)[..., 0], mask)


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
    first, again, other = read(files, 20), read(files, 20), read(files, 20, seed=2)
    assert first == again and first != other
    assert len({seed for seed, _ in first}) == 20


@pytest.mark.parametrize("start", [1, 5, COUNT, COUNT + 4, 2 * COUNT + 1])
def test_resumes_anywhere_with_the_same_records_and_seeds(files, start):
    assert read(files, 10, start=start) == read(files, start + 10)[start:]


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
