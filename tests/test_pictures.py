from pathlib import Path

import pytest

from deepmac.core.errors import InputError
from deepmac.jobs.pictures import list_pictures, without_results


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt", "sub/a.png", "sub/deep/c.tif"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "photos"


def _names(pictures):
    return [picture.name.as_posix() for picture in pictures]


def test_a_folder_gives_the_pictures_of_all_its_subfolders_in_order(folder, tmp_path):
    pictures = list_pictures([str(folder)])
    assert _names(pictures) == ["a.PNG", "b.jpg", "sub/a.png", "sub/deep/c.tif"]
    assert all(picture.path == folder / picture.name for picture in pictures)


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["{folder}/*"], ["a.PNG", "b.jpg"]),
        (["{folder}/**/*.png"], ["sub/a.png"]),
        (["{folder}/s?b/*"], ["sub/a.png"]),
        (["{folder}/**/[ab].*"], ["a.PNG", "b.jpg", "sub/a.png"]),
        (["*.jpg"], ["b.jpg"]),  # in the current folder
        (["sub/*.png"], ["a.png"]),
        (["**.jpg"], ["b.jpg"]),
        (["a[1].jpg"], ["a[1].jpg"]),  # first of all a name
        (["{folder}/notes.txt", "sub/a.png"], ["notes.txt", "a.png"]),  # files, whatever they are called
        (
            ["{folder}/sub/a.png", "{folder}", "{folder}/sub/../*.jpg"],
            ["a.png", "a.PNG", "b.jpg", "sub/deep/c.tif"],
        ),
    ],
)
def test_patterns_and_names_of_which_each_picture_is_found_once(folder, monkeypatch, sources, names):
    monkeypatch.chdir(folder)
    if sources == ["a[1].jpg"]:
        (folder / "a[1].jpg").touch()
    assert _names(list_pictures([source.format(folder=folder) for source in sources])) == names


def test_results_are_no_pictures(folder):
    for name in ("b_labels.png", "b_overlay.png", "b_masks.json", "c_labels.png"):
        (folder / "sub" / name).touch()
    found = list_pictures([str(folder)])
    assert _names(without_results(found))[2:] == ["sub/a.png", "sub/c_labels.png", "sub/deep/c.tif"]
    with pytest.raises(InputError, match="is a result"):
        without_results(list_pictures([f"{folder}/sub/b_*"]))


def test_masks_of_a_collection_are_no_pictures_but_those_beside_them_are(folder):
    (folder / "sub" / "iwildcam_masks_report_1-of-2.json").touch()
    for name in ("sub/overlays/deep/c.jpg", "sub/contact_sheet.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert _names(without_results(list_pictures([str(folder)]))) == ["a.PNG", "b.jpg", "sub/deep/c.tif"]


@pytest.mark.parametrize("source", ["missing.jpg", "missing/*.jpg", "photos/*.gif", "empty", "loop"])
def test_a_source_without_pictures_is_an_input_error(folder, tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("loop").symlink_to("loop")
    with pytest.raises(InputError, match="no pictures at"):
        list_pictures(["photos", source])
