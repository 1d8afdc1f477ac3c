from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from deepmac.data.splits import draw_validation


def _images(count, **fields):
    return {i: {"id": i} | {name: value(i) for name, value in fields.items()} for i in range(count)}


def _annotations(*categories_of_images):
    return [
        {"image_id": image_id, "category_id": category}
        for image_id, categories in enumerate(categories_of_images)
        for category in categories
    ]


@given(
    st.lists(st.lists(st.integers(1, 5), max_size=4), min_size=1, max_size=40),
    st.floats(0, 0.9),
)
def test_every_class_can_still_be_trained_on(categories_of_images, fraction):
    images, annotations = _images(len(categories_of_images)), _annotations(*categories_of_images)
    drawn = draw_validation(images, annotations, fraction)
    assert drawn == draw_validation(images, annotations[::-1], fraction)
    trained_on = {entry["category_id"] for entry in annotations if entry["image_id"] not in drawn}
    assert trained_on == {entry["category_id"] for entry in annotations}
    assert len(drawn) < len(images) or not annotations


def test_a_rare_class_is_drawn_like_a_frequent_one():
    frequent, rare = [[1]] * 95, [[2]] * 5
    drawn = draw_validation(_images(100), _annotations(*frequent, *rare), 0.2)
    assert Counter(image_id >= 95 for image_id in drawn) == {False: 19, True: 1}


def test_pictures_of_a_sequence_or_a_folder_stay_together():
    annotations = _annotations(*[[1]] * 60)
    for fields in (
        {"seq_id": lambda i: f"burst {i // 3}"},
        {"seq_id": lambda i: [1, i // 3]},
        {"file_name": lambda i: f"camera{i // 3}/{i}.jpg"},
    ):
        drawn = draw_validation(_images(60, **fields), annotations, 0.2)
        assert len(drawn) == 12
        assert Counter(image_id // 3 for image_id in drawn) == dict.fromkeys({i // 3 for i in drawn}, 3)
    images = _images(40, file_name=lambda i: f"{'cats' if i < 20 else 'dogs'}/{i}.jpg")
    drawn = draw_validation(images, _annotations(*[[1]] * 20, *[[2]] * 20), 0.25)
    assert Counter(image_id < 20 for image_id in drawn) == {True: 5, False: 5}, "classes are no sequences"
