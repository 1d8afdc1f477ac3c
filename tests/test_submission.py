import json
import shutil
import zipfile
from collections import Counter

import command_line
import numpy as np
import pytest
import synthetic
import tiny_model
from PIL import Image
from pycocotools import mask as coco_mask

from deepmac.core.categories import ALL_IDS
from deepmac.core.errors import InputError
from deepmac.data.data_sets import read_coco_folder
from deepmac.inference.evaluate import evaluate_model
from deepmac.jobs.submission import read_image_list, write_submission

SPLIT = "val2017"


@pytest.fixture(scope="module")
def coco_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    scenes = [synthetic.draw_scene(40 + 8 * i, 72, 2, i) for i in range(10)]
    synthetic.write_coco(folder, SPLIT, scenes, [1, 53])
    for path in (folder / SPLIT).iterdir():  # two libraries decode a JPEG to slightly different pixels
        Image.open(path).save(path, "PNG")
    return folder


@pytest.fixture(scope="module")
def submission(coco_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return write_submission(tiny_model.model_dir(), coco_dir, out, SPLIT, precision="float32")


def _results(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(f"{path.stem}.json"))


def test_holds_the_detections_of_an_evaluation(coco_dir, submission):
    assert submission.name == "detections_val2017_deepmac_results.zip"
    data = read_coco_folder(coco_dir, [SPLIT])[SPLIT]
    evaluators = evaluate_model(tiny_model.model_dir(), data, precision="float32")
    predictions = {image_id: [] for image_id in evaluators["detections"].image_ids}
    for prediction in evaluators["detections"]._detections:
        predictions[prediction["image_id"]].append(prediction)
    found = {image_id: [] for image_id in predictions}
    for result in _results(submission):
        if coco_mask.area(result["segmentation"]):
            found[result["image_id"]].append(result)
    assert sum(map(len, found.values())) > 20
    for image_id, predicted in predictions.items():
        # Not those beside the picture.
        shown = [one for one in predicted if coco_mask.area(one["segmentation"])]
        results = found[image_id]
        np.testing.assert_allclose(
            [result["score"] for result in results],
            sorted((one["score"] for one in shown), reverse=True),
            atol=1e-4,
        )
        classes = sorted(one["category_id"] for one in shown)
        assert sorted(result["category_id"] for result in results) == classes
        areas, expected = (
            sorted(coco_mask.area(one["segmentation"]) for one in entries) for entries in (results, shown)
        )
        np.testing.assert_allclose(areas, expected, atol=3)


def test_is_what_the_server_accepts(coco_dir, submission):
    with zipfile.ZipFile(submission) as archive:
        assert archive.namelist() == ["detections_val2017_deepmac_results.json"]
    results = _results(submission)
    sizes = {image["id"]: [image["height"], image["width"]] for image in read_image_list(coco_dir, SPLIT)}
    assert max(Counter(result["image_id"] for result in results).values()) <= 100
    for result in results:
        assert set(result) == {"image_id", "category_id", "segmentation", "score"}
        assert result["category_id"] in ALL_IDS
        assert 0 <= result["score"] <= 1
        assert result["segmentation"]["size"] == sizes[result["image_id"]]
        assert coco_mask.area(result["segmentation"]) <= np.prod(sizes[result["image_id"]])


def test_pictures_without_annotations_lie_in_the_folder_of_the_test_set(coco_dir, tmp_path):
    (tmp_path / "annotations").mkdir()
    images = read_image_list(coco_dir, SPLIT)[:2]
    (tmp_path / "annotations" / "image_info_test-dev2017.json").write_text(json.dumps({"images": images}))
    (tmp_path / "test2017").mkdir()
    for image in images:
        shutil.copy(coco_dir / SPLIT / image["file_name"], tmp_path / "test2017")
    arguments = ["--model", tiny_model.model_dir(), "--coco-dir", tmp_path, "--name", "ours"]
    command_line.run("submission", *arguments, "--out", tmp_path / "out")
    path = tmp_path / "out" / "detections_test-dev2017_ours_results.zip"
    assert {result["image_id"] for result in _results(path)} == {image["id"] for image in images}

    (tmp_path / "test2017" / images[0]["file_name"]).unlink()
    with pytest.raises(InputError, match=r"1 of 2 pictures are missing, the first is .*test2017"):
        write_submission(tiny_model.model_dir(), tmp_path, tmp_path)
    with pytest.raises(InputError, match="neither image_info_test2017"):
        read_image_list(tmp_path, "test2017")
    needed = "needs 'images', each with file_name"
    for text, words in (("{}", needed), ("[]", needed), ('{"images": [3]}', needed), ("{", "not valid JSON")):
        (tmp_path / "annotations" / "image_info_test2017.json").write_text(text)
        with pytest.raises(InputError, match=words):
            write_submission("no model is loaded for it", tmp_path, tmp_path, "test2017")
