from pathlib import Path

import camera_traps
import pytest

from deepmac.core.errors import InputError
from deepmac.iwildcam.layout import find_layout, mask_path, picture_id, picture_path, relative_names


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("year", [2021, 2022])
def test_releases_are_found_as_they_were_unpacked(tmp_path, year, nested):
    root = camera_traps.write_release(tmp_path, year, nested)
    layout = find_layout(root)
    names = {path.name for path in layout.metadata}
    assert names == {f"iwildcam{year}_train_annotations.json", f"iwildcam{year}_test_information.json"}
    assert (layout.counts is None) == (year == 2021)
    name = "train/b-2.jpg" if year == 2022 else "b-2"
    assert picture_path(layout.images, name).name == "b-2.jpg"
    assert picture_path(layout.images, "nothing") is None
    assert layout.masks == root / "instance_masks"
    (root / "instance_masks" / "instance_masks").mkdir(parents=True)
    assert find_layout(root).masks == root / "instance_masks" / "instance_masks"


def test_the_folder_of_a_split_holds_its_pictures(tmp_path):
    root = camera_traps.write_release(tmp_path)
    assert picture_path(root / "train", "train/a-1.jpg") == root / "train" / "a-1.jpg"
    assert picture_path(root / "train", "a-1") == root / "train" / "a-1.jpg"
    assert picture_path(root / "train", "elsewhere/a-1.jpg") is None, "may be another picture of that name"


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("train/8f3e.jpg", "8f3e"),
        ("test/8f3e.JPG", "8f3e"),
        ("8f3e", "8f3e"),
        ("8f3e.v2", "8f3e.v2"),
        ("camera1/8f3e.jpg", "camera1/8f3e"),
        ("train/camera1/8f3e.jpg", "train/camera1/8f3e"),
        ("camera.1/8f3e.png", "camera.1/8f3e"),
    ],
)
def test_ids_name_the_masks(name, identity):
    assert picture_id(name) == identity
    assert mask_path(Path("masks"), name) == Path("masks") / f"{identity}.png"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "b/c.jpg"], ["a.jpg", "b/c.jpg"]),
        (["{images}/a.jpg", "{images}/b/c.jpg"], ["a.jpg", "b/c.jpg"]),
        (["/data/traps/1/a.jpg", "/data/traps/2/a.jpg"], ["1/a.jpg", "2/a.jpg"]),
        (["C:/traps/1/a.jpg", "C:/traps/12/a.jpg"], ["1/a.jpg", "12/a.jpg"]),
        (["C:/traps/1/a.jpg", "/mnt/2/a.jpg"], ["C/traps/1/a.jpg", "mnt/2/a.jpg"]),
        (["../a.jpg", "../b.jpg"], ["a.jpg", "b.jpg"]),
        ([], []),
    ],
)
def test_absolute_names_become_relative(tmp_path, names, expected):
    names = [name.replace("{images}", tmp_path.as_posix()) for name in names]
    assert relative_names(names, tmp_path) == expected
    for nameless in ("", "/", ".."):
        with pytest.raises(InputError, match="has no name"):
            relative_names([*names, nameless], tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("C:/data/2/b.jpg", "2/b.jpg"),
        ("/mnt/old/2/b.jpg", "2/b.jpg"),
        ("../traps/2/b.jpg", "2/b.jpg"),
        ("C:/data/b.jpg", "C/data/b.jpg"),  # may be another picture of that name
        ("/mnt/1/a.jpg", "mnt/1/a.jpg"),  # has a name already
        ("/mnt/../1/c.jpg", "mnt/1/c.jpg"),
        ("D:/a.jpg", "D/a.jpg"),
    ],
)
@pytest.mark.parametrize("start", ["", "traps/", "/mnt/disk/", "C:/traps/"])
def test_a_name_from_elsewhere_is_found_by_its_end_or_missing(tmp_path, name, expected, start):
    """It does not stop the others; what is missing is named by all that read the collection."""
    for picture in ("1/a.jpg", "1/d.jpg", "2/b.jpg"):
        camera_traps.write_picture(tmp_path / picture)
    others = {f"{start}{other}": other for other in ("1/a.jpg", "1/missing.jpg", "1/d.jpg")}
    for names in ([name, *others], [*others, name]):
        found = dict(zip(names, relative_names(names, tmp_path), strict=True))
        assert found == others | {name: expected}


def test_the_only_file_of_detections_is_found_whatever_its_name(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        find_layout(tmp_path / "missing")
    with pytest.raises(InputError, match="found none"):
        find_layout(tmp_path)
    (tmp_path / "datapackage.json").write_text('{"resources": []}')
    assert find_layout(tmp_path).detections == tmp_path / "datapackage.json"
    (tmp_path / "species.json").write_text('{"annotations": [], "images": []}')
    (tmp_path / "other.json").write_text("{}")
    camera_traps.write_detections(tmp_path / "a.json", {"a.jpg": 1})
    layout = find_layout(tmp_path)
    assert (layout.detections, layout.metadata) == (tmp_path / "a.json", (tmp_path / "species.json",))
    camera_traps.write_detections(tmp_path / "b.json", {"a.jpg": 1})
    with pytest.raises(InputError, match=r"a.json and .*b.json: name the one to use"):
        find_layout(tmp_path)
    assert find_layout(tmp_path, tmp_path / "b.json").detections == tmp_path / "b.json"
    assert find_layout(tmp_path, "elsewhere.csv").detections == Path("elsewhere.csv")

    # animl's table; those of the release and of this package hold no detections.
    (tmp_path / "animals.csv").write_text("picture,xmin\n")
    (tmp_path / "a.json").rename(tmp_path / "b.json")
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/found.csv").write_text("filepath,file,category,conf,bbox1,bbox2,bbox3,bbox4\n")
    with pytest.raises(InputError, match=r"b.json and .*found.csv: name the one to use"):
        find_layout(tmp_path)
    (tmp_path / "b.json").unlink()
    assert find_layout(tmp_path).detections == tmp_path / "metadata/found.csv"
    camera_traps.write_detections(tmp_path / "a.json", {"a.jpg": 1})
    (tmp_path / "metadata/found.csv").unlink()

    # Masks are found where the command left its report.
    assert find_layout(tmp_path).masks == tmp_path / "instance_masks"
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/iwildcam_masks_report_0-of-2.json").touch()
    assert find_layout(tmp_path).masks == tmp_path / "labels"
    assert find_layout(tmp_path, masks=tmp_path / "other").masks == tmp_path / "other"
