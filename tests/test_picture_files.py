import sys
from pathlib import Path

import pytest

from deepmac.data.megadetector import Detections
from deepmac.data.picture_files import files_below, find_pictures
from deepmac.jobs.box_files import BoxFile
from deepmac.jobs.pictures import Picture, list_pictures


def _write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def _boxes_of_scenes(count, folder):
    table = Detections()
    for number in range(count):
        table.add(f"/mnt/data/scene_{number}/rgb.jpg", [([number, 0, 1, 1], "1", 1)])
    pictures = [Picture(folder / f"scene_{number}" / "rgb.jpg", Path("rgb.jpg")) for number in range(count)]
    found = BoxFile(Path("boxes.json"), table, "xywh", 0).of(pictures)
    assert [boxes.boxes[0][0] for boxes in found] == [*range(count)]


def _files_of_scenes(count, folder):
    _write(folder, *(f"scene_{number}/rgb.jpg" for number in range(count)))
    names = [f"/mnt/data/scene_{number}/rgb.jpg" for number in range(count)]
    assert set(find_pictures(names, folder)) == {*names}
    assert not find_pictures([name.replace("scene", "other") for name in names], folder)


@pytest.mark.parametrize("work", [_boxes_of_scenes, _files_of_scenes])
def test_work_grows_with_the_number_of_pictures_that_are_called_the_same(tmp_path, work):
    def calls(count):
        made = []
        sys.setprofile(lambda frame, event, argument: made.append(1) if event == "call" else None)
        try:
            work(count, tmp_path / str(count))
        finally:
            sys.setprofile(None)
        return len(made)

    assert calls(120) < 4.5 * calls(30)


def test_of_nested_folders_of_one_name_that_is_meant_whose_path_says_more(tmp_path):
    folder = _write(tmp_path / "data" / "cam1", "a.jpg", "cam1/a.jpg", "cam2/b.JPG")
    names = ["/mnt/data/cam1/a.jpg", "D:\\cam1\\cam1\\A.jpg", "b"]
    assert find_pictures(names, folder) == {
        names[0]: Path("a.jpg"), names[1]: Path("cam1/a.jpg"), "b": Path("cam2/b.JPG")
    }  # fmt: skip


def test_uploads_to_label_studio_lie_in_any_folder_others_where_they_say(tmp_path):
    folder = _write(tmp_path / "pictures", "cam1/a.jpg", "cam1/0a1b2c3d-b.jpg")
    names = ["/data/upload/1/3fa8c1d2-a.jpg", "/data/upload/1/0a1b2c3d-b.jpg", "/mnt/cam2/a.jpg"]
    assert find_pictures(names, folder) == {
        names[0]: Path("cam1/a.jpg"), names[1]: Path("cam1/0a1b2c3d-b.jpg")
    }  # fmt: skip


def test_linked_folders_are_looked_into_once(tmp_path):
    folder = _write(tmp_path / "pictures", "z/a.jpg", "b.png", "notes.txt")
    _write(tmp_path / "store", "cam/c.jpg")
    (folder / "train").symlink_to(tmp_path / "store")
    (folder / "same").symlink_to(folder / "z")
    for place, target in ((folder / "z" / "up", folder), (tmp_path / "store" / "out", tmp_path)):
        place.symlink_to(target)
    names = ["b.png", "train/cam/c.jpg", "z/a.jpg"]
    assert [path.relative_to(folder).as_posix() for path in files_below(folder)] == names
    assert [picture.name.as_posix() for picture in list_pictures([str(folder)])] == names
    assert find_pictures(["cam/c.jpg"], folder) == {"cam/c.jpg": Path("train/cam/c.jpg")}
