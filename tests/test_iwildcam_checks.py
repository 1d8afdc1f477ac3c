import camera_traps
import numpy as np
import pytest
from PIL import Image

from deepmac.core.label_images import read_label_image, write_label_image
from deepmac.inference.prediction import Prediction
from deepmac.iwildcam import checks
from deepmac.iwildcam.checks import check_collection
from deepmac.iwildcam.collection import open_collection


@pytest.fixture
def root(tmp_path):
    """A collection without faults."""
    root = camera_traps.write_release(tmp_path)
    for name, count in camera_traps.DETECTIONS.items():
        if count:
            _write(root, name, _masks(range(count)))
    return root


def _masks(order, size=camera_traps.SIZE):
    """Masks that fill the boxes of the detections, which come in this order."""
    corners = [[y, x, y + h, x + w] for x, y, w, h in camera_traps.BOXES]
    boxes, confidences = ([values[k] for k in order] for values in (corners, camera_traps.CONFIDENCES))
    image, boxes = np.zeros((*size, 3), np.uint8), np.reshape(boxes, (-1, 4))
    return Prediction(image, boxes, np.ones((len(order), 4, 4))).to_label_image(confidences=confidences)


def _write(root, name, labels):
    write_label_image(root / "instance_masks" / f"{name}.png", labels)


def _problems(root, **options):
    found = check_collection(open_collection(root), **options)
    return {problem.name: (problem.kind, problem.text) for problem in found}


def test_all_that_is_wrong_is_listed(root):
    assert _problems(root) == {}
    (root / "train" / "a-1.jpg").unlink()
    _write(root, "b-2", np.full(camera_traps.SIZE, 4, np.uint8))
    path = root / "train" / "c-3.jpg"
    path.write_bytes(path.read_bytes()[:300])
    _write(root, "d-4", np.zeros((40, 80), np.uint8))
    found = _problems(root)
    assert {name: kind for name, (kind, _) in found.items()} == {
        "train/a-1.jpg": "missing picture",
        "train/b-2.jpg": "unknown detection",
        "train/c-3.jpg": "unreadable picture",
        "test/d-4.jpg": "size mismatch",
    }
    assert found["train/b-2.jpg"][1] == "masks of detection 4, but 3 detections"
    assert found["test/d-4.jpg"][1] == "picture 80 x 48, masks 80 x 40 pixels"
    assert "damaged" in found["train/c-3.jpg"][1]
    (root / "instance_masks" / "a-1.png").unlink()
    assert _problems(root)["train/a-1.jpg"][0] == "missing picture", "no fault of its masks"


def test_missing_and_damaged_masks(root):
    (root / "instance_masks" / "a-1.png").unlink()
    (root / "instance_masks" / "d-4.png").write_bytes(b"damaged")
    kinds = {name: kind for name, (kind, _) in _problems(root).items()}
    assert kinds == {"train/a-1.jpg": "missing masks", "test/d-4.jpg": "unreadable masks"}
    assert "train/a-1.jpg" not in _problems(root, min_conf=0.95), "no detection is that confident"


def test_unusable_boxes(root):
    path = root / "metadata" / "iwildcam2022_mdv4_detections.json"
    path.write_text(path.read_text().replace("[0.3, 0.1, 0.6, 0.5]", "[0.3, 0.1, 0.0, 0.5]"))
    _write(root, "b-2", np.zeros(camera_traps.SIZE, np.uint8))
    kind, text = _problems(root)["train/b-2.jpg"]
    assert (kind, text) == ("unusable box", "detection 2 has no area in the picture")


def test_pictures_are_measured_as_they_are_seen(root):
    height, width = camera_traps.SIZE
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (width, height)).save(root / "train/a-1.jpg", exif=exif)
    assert _problems(root)["train/a-1.jpg"][0] == "size mismatch"
    _write(root, "a-1", _masks(range(2), (width, height)))
    assert _problems(root) == {}


def test_masks_of_detections_in_another_order_are_noticed(root):
    """Areas and qualities would be another animal's."""
    for name, order in (("a-1", [1, 0]), ("b-2", [0, 2, 1])):
        _write(root, name, _masks(order))
    kinds, texts = zip(*_problems(root).values(), strict=True)
    assert kinds == ("masks of other detections",) * 2
    assert texts == tuple(f"mask {k} leaves its box: run iwildcam-masks again" for k in (1, 2))


def test_masks_are_looked_at_in_their_boxes_only(root, monkeypatch):
    """With many animals in a picture, whole label images would take long."""
    compared = []

    class Labels(np.ndarray):
        def __eq__(self, other):
            compared.append(self.size)
            return np.asarray(self) == other

    monkeypatch.setattr(checks, "read_label_image", lambda path: read_label_image(path).view(Labels))
    assert _problems(root) == {}
    boxes = [camera_traps.BOXES[k] for count in camera_traps.DETECTIONS.values() for k in range(count)]
    assert len(compared) == len(boxes)
    assert sum(compared) <= sum((80 * width + 4) * (48 * height + 4) for *_, width, height in boxes)
