import contextlib
import shutil
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny_model

import deepmac
from deepmac.core.errors import InputError
from deepmac.inference.crops import plan_crops
from deepmac.inference.find import SHIPPED
from deepmac.inference.predictor import Predictor


@pytest.fixture
def predictor():
    """A predictor without an image, which shares the compiled network of the others."""
    return Predictor(tiny_model.predictor()._network)


def test_load_takes_a_model_dir_and_warns_of_nothing_in_normal_use():
    with warnings.catch_warnings(action="error"):
        predictor = deepmac.load(str(tiny_model.model_dir()), precision="auto")
        assert predictor.precision in ("float32", "bfloat16")
        assert predictor.input_size == tiny_model.SIZE
        predictor.set_image(tiny_model.picture())
        assert predictor.predict([[0, 0, 1, 1]]).masks.shape == (1, 48, 80)


def test_a_shipped_model_that_is_missing_says_so(monkeypatch, tmp_path):
    monkeypatch.setitem(SHIPPED, "mini", tmp_path / "mini")
    with pytest.raises(InputError, match="no model 'mini'"):
        deepmac.load()
    shutil.copytree(tiny_model.model_dir(), tmp_path / "mini")
    assert deepmac.load("mini").input_size == tiny_model.SIZE


def test_an_image_is_needed_and_a_damaged_one_leaves_the_one_before(predictor, tmp_path):
    with pytest.raises(InputError, match="call set_image before predict"):
        predictor.predict([[0, 0, 1, 1]])
    predictor.set_image(tiny_model.picture())
    before = predictor.predict([[0, 0, 1, 1]]).mask_probs
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InputError, match=r"a\.jpg"):
        predictor.set_image(tmp_path / "a.jpg")
    np.testing.assert_array_equal(predictor.predict([[0, 0, 1, 1]]).mask_probs, before)


def test_all_box_formats_give_the_same_masks(predictor):
    predictor.set_image(tiny_model.picture(height=48, width=80))
    expected = predictor.predict([[0.25, 0.1, 0.75, 0.6]])
    for box_format, box in {"xyxy": [8, 12, 48, 36], "xywh": [8, 12, 40, 24]}.items():
        prediction = predictor.predict([box], box_format)
        np.testing.assert_allclose(prediction.boxes, expected.boxes, atol=1e-6)
        np.testing.assert_allclose(prediction.mask_probs, expected.mask_probs, atol=1e-4)
    with pytest.raises(InputError, match=r"box 1 .* outside"):
        predictor.predict([[8, 12, 48, 36], [90, 12, 99, 36]], "xyxy")


def test_a_box_that_reaches_beyond_the_image_is_clipped(predictor):
    predictor.set_image(tiny_model.picture())
    with pytest.warns(UserWarning, match="clipped") as caught:
        prediction = predictor.predict([[0.5, 0.5, 1.5, 1.5]])
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(prediction.boxes, [[0.5, 0.5, 1, 1]])
    inside = predictor.predict([[0.5, 0.5, 1, 1]])
    np.testing.assert_array_equal(prediction.mask_probs, inside.mask_probs)
    assert predictor.predict([[0.5, 0.5, 1, 1]], threshold=0.4).threshold == 0.4


def _count_traces(predictor):
    functions = (predictor._network._encode, predictor._network._masks)
    return sum(function.experimental_get_tracing_count() for function in functions)


def test_masks_do_not_depend_on_the_other_boxes_and_nothing_is_traced_again(predictor):
    predictor.set_image(tiny_model.picture())
    boxes = tiny_model.random_boxes(70)
    together = predictor.predict(boxes).mask_probs
    assert together.shape == (70, 32, 32)
    assert np.abs(together[0] - together[1]).max() > 0.01
    traces = _count_traces(predictor)
    for count in (1, 2, 3, 5, 6, 7, 13, 33, 64, 65, 70):
        masks = predictor.predict(boxes[:count]).mask_probs
        np.testing.assert_allclose(masks, together[:count], atol=2e-6)
    predictor.set_image(tiny_model.picture(seed=1, height=300, width=17))
    assert np.isfinite(predictor.predict(tiny_model.random_boxes(300)).mask_probs).all()
    assert _count_traces(predictor) == traces == 2


def test_a_small_object_of_a_large_picture_is_seen_in_a_square_around_it(predictor):
    image = tiny_model.picture(height=480, width=640)
    predictor.set_image(image)
    boxes = [[0, 0, 400, 400], [300, 200, 330, 230]]
    large, small = predictor.predict(boxes, "xyxy").mask_probs
    from_afar = predictor.predict(boxes, "xyxy", closer=False).mask_probs
    np.testing.assert_allclose(from_afar[0], large, atol=2e-6)
    assert np.abs(from_afar[1] - small).max() > 1e-3
    [square] = plan_crops(np.array([[200 / 480, 300 / 640, 230 / 480, 330 / 640]]), 480, 640, tiny_model.SIZE)
    part = image[square.top : square.top + square.side, square.left : square.left + square.side]
    predictor.set_image(part)
    left, top = 300 - square.left, 200 - square.top
    expected = predictor.predict([[left, top, left + 30, top + 30]], "xyxy").mask_probs[0]
    np.testing.assert_allclose(small, expected, atol=1e-4)
    predictor.set_image(image)
    np.testing.assert_allclose(large, predictor.predict([[0, 0, 400, 400]], "xyxy").mask_probs[0], atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (200, 12000), (3000, 7)])
def test_pictures_of_extreme_sizes(predictor, size):
    predictor.set_image(np.full((*size, 3), 90, np.uint8))
    prediction = predictor.predict([[0, 0, 1, 1], [0.25, 0.25, 0.75, 0.75]])
    assert prediction.masks.shape == (2, *size)
    assert np.isfinite(prediction.mask_probs).all()


def test_a_batch_gives_what_single_images_give(predictor):
    images = [tiny_model.picture(seed, 30 + 9 * seed, 70 - 5 * seed) for seed in range(5)]
    boxes = [tiny_model.random_boxes(1 + seed, seed) for seed in range(5)]
    predictor.set_image(images[0])
    predictions = predictor.predict_batch(images, boxes)
    assert len(predictions) == 5
    for image, image_boxes, prediction in zip(images, boxes, predictions, strict=True):
        single = predictor.predict(image_boxes, encoded=predictor.encode(image))
        np.testing.assert_array_equal(prediction.image, image)
        np.testing.assert_array_equal(prediction.boxes, single.boxes)
        np.testing.assert_array_equal(prediction.mask_probs, single.mask_probs)
    current = predictor.predict(boxes[0]).mask_probs  # of the image that was set
    np.testing.assert_array_equal(current, predictions[0].mask_probs)


def test_errors_in_a_batch_name_the_image(predictor):
    image, box = tiny_model.picture(), [[0, 0, 1, 1]]
    with pytest.raises(InputError, match=r"image 2: box 1 .* inverted"):
        predictor.predict_batch([image] * 3, [box, box, [*box, [1, 0, 0, 1]]])
    with pytest.raises(InputError, match=r"image 1: .*uint8"):
        predictor.predict_batch([image, image / 255], [box, box])
    with pytest.raises(InputError, match="2 images, but boxes for 1"):
        predictor.predict_batch([image, image], [box])
    assert predictor.predict_batch([], []) == []


def test_threads_with_images_of_their_own(predictor):
    images = [tiny_model.picture(seed) for seed in range(6)]
    boxes = tiny_model.random_boxes(3)
    expected = [predictor.predict(boxes, encoded=predictor.encode(image)).mask_probs for image in images]
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    start = threading.Barrier(3)

    def work(offset):
        start.wait()
        for index in (offset, offset + 3, offset):
            masks = predictor.predict(boxes, encoded=predictor.encode(images[index])).mask_probs
            np.testing.assert_allclose(masks, expected[index], atol=2e-6)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))


def test_threads_that_share_the_image_see_one_whole_image(predictor):
    images = [tiny_model.picture(seed, 40 + 10 * seed, 60) for seed in range(2)]
    boxes = tiny_model.random_boxes(2)
    expected = [predictor.predict(boxes, encoded=predictor.encode(image)).mask_probs for image in images]
    predictor.set_image(images[0])
    done = threading.Event()

    def switch():
        while not done.is_set():
            for image in images:
                predictor.set_image(image)

    with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as stack:
        stack.callback(done.set)  # also when something below fails: the pool waits for it
        pool.submit(switch)
        for _ in range(20):
            prediction = predictor.predict(boxes)
            which = [image.shape == prediction.image.shape for image in images].index(True)
            np.testing.assert_allclose(prediction.mask_probs, expected[which], atol=2e-6)
