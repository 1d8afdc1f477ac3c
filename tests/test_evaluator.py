import copy
import json
import tracemalloc

import numpy as np
import pytest
from evaluation_data import (
    CATEGORIES,
    HEIGHT,
    IDS,
    METRICS,
    SEEN_IDS,
    WIDTH,
    Predictions,
    add_all,
    blobs,
    coco_metrics,
    imperfect,
    random_boxes,
    scenes,
)
from pycocotools import mask as coco_mask

from deepmac.core.categories import VOC_IDS
from deepmac.core.errors import InputError
from deepmac.core.masks import encode_masks, paste_masks
from deepmac.evaluation import MaskEvaluator
from deepmac.evaluation.baselines import BASELINES, ellipse_mask

# pycocotools' `decode` has yet to learn NumPy 2's copy keyword.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def data():
    content, perfect = scenes()
    _, with_crowds = scenes(crowds=False)  # the same scenes: detections lie on crowd regions too
    return content, perfect, imperfect(with_crowds)


def same_values(left, right, tolerance):
    assert left.keys() == right.keys()
    np.testing.assert_allclose(list(left.values()), list(right.values()), rtol=0, atol=tolerance)


def one_class(boxes, mask, crowd=()):
    """A data set of one image and the class `car`, every instance with the same mask in its box."""
    content = {"images": [{"id": 7, "height": HEIGHT, "width": WIDTH}], "categories": CATEGORIES[1:2]}
    rles = encode_masks(np.stack([mask] * len(boxes)), boxes, HEIGHT, WIDTH)
    ymin, xmin, ymax, xmax = (boxes * [HEIGHT, WIDTH, HEIGHT, WIDTH]).T
    corners = np.stack([xmin, ymin, xmax - xmin, ymax - ymin], 1).tolist()
    content["annotations"] = [
        {
            "id": k,
            "image_id": 7,
            "category_id": 3,
            "bbox": corners[k],
            "area": int(coco_mask.area(rles[k])),
            "iscrowd": int(k in crowd),
            "segmentation": rles[k],
        }
        for k in range(len(boxes))
    ]
    return content


def test_perfect_predictions_reach_100_percent(data):
    content, perfect, _ = data
    result = add_all(MaskEvaluator(content, SEEN_IDS), perfect).result()
    for iou_type in ("mask", "box"):
        for subset in ("", "seen/", "unseen/", "supercategory/animal/", "class/zebra/"):
            assert result[f"{iou_type}/{subset}AP"] == pytest.approx(100)
            assert result[f"{iou_type}/{subset}AR100"] == pytest.approx(100)
        assert np.isnan(result[f"{iou_type}/class/toothbrush/AP"])
        assert np.isnan(result[f"{iou_type}/supercategory/indoor/AR100"])
    assert "mask/mIoU" not in result


def test_a_super_category_that_is_no_name_groups_nothing(data):
    content, perfect, _ = copy.deepcopy(data)
    content["categories"][0]["supercategory"] = {"a": 1}
    subsets = {
        key.split("/")[2] for key in add_all(MaskEvaluator(content), perfect).result() if "super" in key
    }
    assert subsets == {"vehicle", "animal", "indoor"}


@pytest.mark.parametrize("backend", ["pycocotools", "faster_coco_eval"])
@pytest.mark.parametrize(("iou_type", "coco_type"), [("mask", "segm"), ("box", "bbox")])
def test_subsets_equal_cocoeval_restricted_to_their_classes(data, iou_type, coco_type, backend):
    content, _, detections = data
    evaluator = MaskEvaluator(content, SEEN_IDS)
    evaluator.backend = backend
    result = add_all(evaluator, detections).result()
    subsets = {
        "": IDS,
        "seen/": SEEN_IDS,
        "unseen/": (5, 24, 90),
        "supercategory/vehicle/": (3, 5),
        "class/cat/": (17,),
    }
    for subset, category_ids in subsets.items():
        expected = coco_metrics(content, detections, coco_type, category_ids)
        values = [result[f"{iou_type}/{subset}{metric}"] for metric in METRICS]
        np.testing.assert_allclose(np.nan_to_num(values, nan=-100), list(expected.values()), atol=1e-9)
    assert 5 < result[f"{iou_type}/AP"] < 95
    names = {key.rsplit("/", 1)[0].split("/", 1)[-1] for key in result}
    assert {"class/person", "supercategory/person", "seen", "unseen"} <= names


def test_ap_of_a_ranking_computed_by_hand():
    boxes = np.array([[0.05, 0.05, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9]])
    mask = blobs(np.random.default_rng(0), 1)[0]
    evaluator = MaskEvaluator(one_class(boxes, mask), seen_ids=(3,))
    wrong = [[0.05, 0.6, 0.2, 0.9]]
    scores = [0.7, 0.8, 0.9]  # the best score is the wrong one
    evaluator.add(7, np.concatenate([boxes, wrong]), [3, 3, 3], scores, np.stack([mask] * 3))
    result = evaluator.result()
    # Precision is 1/2 at the first hit and 2/3 at the second; interpolated, 2/3 everywhere.
    for key in ("mask/AP", "mask/AP75", "box/AP", "mask/seen/AP", "mask/class/car/AP"):
        assert result[key] == pytest.approx(100 * 2 / 3)
    assert result["mask/AR100"] == pytest.approx(100)
    assert np.isnan(result["mask/unseen/AP"])


def test_detections_in_crowds_count_neither_way():
    boxes = np.array([[0.05, 0.05, 0.4, 0.4], [0.5, 0.1, 0.95, 0.9]])
    mask = np.ones((4, 4), np.float32)
    evaluator = MaskEvaluator(one_class(boxes, mask, crowd=(1,)))
    inside_crowd = np.array([[0.55, 0.2, 0.7, 0.4], [0.6, 0.5, 0.8, 0.8]])
    outside = np.array([[0.05, 0.6, 0.2, 0.9]])
    everything = np.concatenate([boxes[:1], inside_crowd])
    evaluator.add(7, everything, [3] * 3, [0.5, 0.9, 0.8], np.ones((3, 4, 4)))
    assert evaluator.result()["mask/AP"] == pytest.approx(100)
    punished = MaskEvaluator(one_class(boxes, mask, crowd=(1,)))
    punished.add(7, np.concatenate([everything, outside]), [3] * 4, [0.5, 0.9, 0.8, 0.7], np.ones((4, 4, 4)))
    assert punished.result()["mask/AP"] == pytest.approx(50)
    assert evaluator.ground_truth(7).annotation_ids.tolist() == [0]


@pytest.mark.parametrize("backend", ["pycocotools", "faster_coco_eval"])
def test_boxes_without_a_mask_count_in_box_ap_only(data, backend):
    """Masks found for them change nothing: the figures are those of a data set without either."""
    content, perfect, _ = data
    maskless = {annotation["id"] for annotation in content["annotations"][::3]}
    bare, cleaned = copy.deepcopy(content), copy.deepcopy(content)
    for annotation in bare["annotations"]:
        if annotation["id"] in maskless:
            annotation["segmentation"] = []
    kept = [annotation for annotation in cleaned["annotations"] if annotation["id"] not in maskless]
    cleaned["annotations"] = kept
    evaluator, expected = (MaskEvaluator(part, SEEN_IDS) for part in (bare, cleaned))
    evaluator.backend = expected.backend = backend
    for image_id, predictions in perfect.items():
        truth = evaluator.ground_truth(image_id)
        evaluator.add(image_id, *predictions, annotation_ids=truth.annotation_ids)
        truth, rows = expected.ground_truth(image_id), ~np.isin(truth.annotation_ids, list(maskless))
        found = [values[rows] for values in predictions]
        expected.add(image_id, *found, annotation_ids=truth.annotation_ids)
    result, wanted = evaluator.result(), expected.result()
    masks = [name for name in wanted if name.startswith("mask/")]
    same_values({name: result[name] for name in masks}, {name: wanted[name] for name in masks}, 1e-9)
    assert result["box/AP"] == pytest.approx(100) and result["box/class/cat/AR100"] == pytest.approx(100)
    samples, wanted = evaluator.bootstrap(resamples=0), expected.bootstrap(resamples=0)
    same_values({k: v[0] for k, v in samples.items()}, {k: v[0] for k, v in wanted.items()}, 1e-9)


def test_no_detections_give_zero_not_nan(data):
    content, perfect, _ = data
    for backend in ("pycocotools", "faster_coco_eval"):
        evaluator = MaskEvaluator(content, SEEN_IDS)
        evaluator.backend = backend
        assert evaluator.result()["mask/AP"] == 0
        for image_id in perfect:
            evaluator.add(image_id, np.zeros((0, 4)), np.zeros(0), np.zeros(0), np.zeros((0, 8, 8)))
        result = evaluator.result()
        assert result["mask/AP"] == result["box/unseen/AR100"] == 0
        assert np.isnan(result["mask/class/toothbrush/AP"])


def test_classes_the_file_does_not_list_are_dropped(data):
    content, _, detections = data
    stranger = {
        image_id: Predictions(*(np.concatenate([part, part]) for part in predictions))
        for image_id, predictions in detections.items()
    }
    for predictions in stranger.values():
        predictions.classes[len(predictions.classes) // 2 :] = 44
    expected = add_all(MaskEvaluator(content), detections).result()
    same_values(add_all(MaskEvaluator(content), stranger).result(), expected, 0)


def test_ground_truth_is_normalised_boxes_without_crowds():
    content, _ = scenes(images=2)
    content["annotations"][0] |= {"bbox": [26, 50, 52, 100], "iscrowd": 0}
    del content["annotations"][1]["iscrowd"]  # many files leave it out
    content["annotations"][2]["iscrowd"] = 1
    rows = [row for row in content["annotations"] if row["image_id"] == 1 and not row.get("iscrowd")]
    truth = MaskEvaluator(content).ground_truth(1)
    np.testing.assert_allclose(truth.boxes[0], [0.25, 0.1, 0.75, 0.3])
    assert truth.annotation_ids.tolist() == [row["id"] for row in rows]
    assert truth.classes.tolist() == [row["category_id"] for row in rows]


def test_baselines_on_real_annotations(coco_dir):
    mask = paste_masks(ellipse_mask(65)[None], np.array([[0, 0, 1, 1]]), 101, 141)[0]
    rows, columns = np.mgrid[-1:1:101j, -1:1:141j]
    assert (mask ^ (rows**2 + columns**2 < 1)).mean() < 0.003, "the inscribed ellipse"
    path = coco_dir / "annotations" / "instances_val2017.json"

    def result(kind):
        evaluator = MaskEvaluator(path, VOC_IDS)
        mask = BASELINES[kind](65)
        evaluator.add_from_boxes(lambda image_id, boxes: np.broadcast_to(mask, (len(boxes), 65, 65)))
        return evaluator.result()

    full, ellipse = result("full_box"), result("ellipse")
    content = json.loads(path.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    ious = []
    for annotation in content["annotations"]:
        if not annotation["iscrowd"]:
            height, width = sizes[annotation["image_id"]]
            rle = coco_mask.merge(coco_mask.frPyObjects(annotation["segmentation"], height, width))
            x, y, w, h = annotation["bbox"]
            rows, columns = np.arange(height) / (height - 1), np.arange(width) / (width - 1)
            rows = (rows >= y / height) & (rows <= (y + h) / height)
            columns = (columns >= x / width) & (columns <= (x + w) / width)
            inside = rows[:, None] & columns
            mask = coco_mask.decode(rle).astype(bool)
            iou = (mask & inside).sum() / (mask | inside).sum()
            ious.append((annotation["category_id"], 100 * iou))
    classes, ious = np.transpose(ious)
    assert full["mask/seen/mIoU"] == pytest.approx(ious[np.isin(classes, VOC_IDS)].mean(), abs=0.05)
    assert full["mask/unseen/mIoU"] == pytest.approx(ious[~np.isin(classes, VOC_IDS)].mean(), abs=0.05)
    assert full["mask/mIoU"] < ellipse["mask/mIoU"] < 75
    assert 15 < full["mask/unseen/AP"] < ellipse["mask/unseen/AP"] < 45


def test_memory_grows_with_the_rle_only():
    side, images, per_image = 1500, 30, 20
    rng = np.random.default_rng(0)
    content, _ = scenes(images)
    for image in content["images"]:
        image["height"] = image["width"] = side
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[0, 0, 9, 0, 9, 9]]
    evaluator = MaskEvaluator(content)
    tracemalloc.start()
    for image_id in evaluator.image_ids:
        boxes = random_boxes(rng, per_image) * 0.5
        scores = rng.random(per_image)
        evaluator.add(image_id, boxes, rng.choice(IDS, per_image), scores, blobs(rng, per_image, 28))
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept / (images * per_image) < 2000  # bytes a detection; its bitmap is 2.25 MB
    assert peak < 20e6


def test_nothing_is_printed_and_the_input_is_left_alone(data, capsys):
    content, _, detections = data
    before = copy.deepcopy(content)
    for backend in ("pycocotools", "faster_coco_eval"):
        evaluator = MaskEvaluator(content, SEEN_IDS)
        evaluator.backend = backend
        add_all(evaluator, detections)
        first = evaluator.result()
        evaluator.bootstrap(resamples=2)
        same_values(evaluator.result(), first, 0)
    assert capsys.readouterr().out == ""
    assert content == before


def test_bad_predictions_are_named(data):
    content, perfect, _ = data
    evaluator = MaskEvaluator(content)
    boxes, classes, scores, masks = next(p for p in perfect.values() if len(p.boxes) > 1)
    with pytest.raises(InputError, match="image id 99 is not among"):
        evaluator.add(99, boxes, classes, scores, masks)
    with pytest.raises(ValueError):
        evaluator.add(1, boxes[1:], classes, scores, masks)
    with pytest.raises(InputError, match="not a finite number"):
        evaluator.add(1, boxes * np.nan, classes, scores, masks)
    with pytest.raises(InputError, match="annotation id 5 is none of its"):
        evaluator.add(1, boxes[:1], classes[:1], scores[:1], masks[:1], annotation_ids=[5])
    with pytest.raises(ValueError, match="shorter"):
        evaluator.add(1, boxes[:1], classes[:1], scores[:1], masks[:1], annotation_ids=[])
    other = evaluator.ground_truth(2).annotation_ids[:1]
    with pytest.raises(InputError, match="none of its instances"):
        evaluator.add(1, boxes[:1], classes[:1], scores[:1], masks[:1], annotation_ids=other)
    evaluator.add(1, boxes, classes, scores, masks)
    with pytest.raises(InputError, match="added before"):
        evaluator.add(1, boxes, classes, scores, masks)


def test_bad_annotations_are_refused(tmp_path):
    content, _ = scenes(images=3)
    (tmp_path / "file").write_text("\xff", encoding="latin-1")
    with pytest.raises(InputError, match="not valid JSON"):
        MaskEvaluator(tmp_path / "file")
    content["categories"][1]["name"] = "person"
    with pytest.raises(InputError, match="is listed twice"):
        MaskEvaluator(content)
