import pytest

from deepmac import configs
from deepmac.core.categories import COCO_CATEGORIES, VOC_IDS
from deepmac.core.errors import InputError
from deepmac.data.classes import read_classes, write_classes
from deepmac.training.fit_to_data import fit_to_data

NAMES = ("bolt", "nut", "gear")
MASKS = (4, 0, 2)  # of four boxes of each class


def own_classes(names=NAMES, masks=MASKS):
    return [
        {"id": k, "file_id": k - 1, "name": name, "boxes": {"train": 4, "val": 1}, "masks": {"train": count}}
        for k, (name, count) in enumerate(zip(names, masks, strict=True), start=1)
    ]


@pytest.fixture
def records(tmp_path):
    (tmp_path / "train-00000-of-00001.tfrecord").touch()
    write_classes(own_classes(), tmp_path)
    return tmp_path


def task(records, experiment=configs.deepmac_mini):
    config = experiment().task
    config.train_data.input_path = f"{records}/train-*"
    return config


def test_numbers_follow_from_the_data_where_they_are_not_configured(records):
    config = task(records)
    assert fit_to_data(config) == own_classes() == read_classes(records)
    assert (config.model.num_classes, config.allowed_masked_classes_ids) == (3, [1, 3])
    assert not list(records.glob("*.tmp"))
    config.model.num_classes, config.allowed_masked_classes_ids = 5, [2]
    fit_to_data(config)
    assert (config.model.num_classes, config.allowed_masked_classes_ids) == (5, [2])
    config = task(records, configs.mask_rcnn_mini)
    fit_to_data(config)
    assert (config.model.num_classes, config.allowed_mask_class_ids) == (4, [1]), "masks in every box"


def test_too_few_classes_and_damage_are_refused(records):
    config = task(records)
    config.model.num_classes = 2
    with pytest.raises(InputError, match="num_classes is 2, but the data need 3"):
        fit_to_data(config)
    (records / "categories.json").write_text("[]")
    with pytest.raises(InputError, match="is damaged"):
        fit_to_data(task(records))


@pytest.mark.parametrize("has_file", [True, False])
def test_coco_and_records_that_say_nothing_change_nothing(records, has_file):
    if has_file:
        counts = {"boxes": {"train": 1}, "masks": {"train": 0}}
        write_classes([one._asdict() | {"file_id": one.id} | counts for one in COCO_CATEGORIES], records)
    else:
        (records / "categories.json").unlink()
    config = task(records)
    before = config.as_dict()
    fit_to_data(config)
    assert config.as_dict() == before and config.allowed_masked_classes_ids == list(VOC_IDS)


def test_folders_of_records_must_agree(records):
    other = records / "more"
    other.mkdir()
    (other / "train-00000-of-00001.tfrecord").touch()
    write_classes(own_classes(names=("bolt", "nut", "washer")), other)
    config = task(records)
    config.train_data.input_path += f",{other}/train-*"
    with pytest.raises(InputError, match="other classes"):
        fit_to_data(config)
