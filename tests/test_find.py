import pytest

from deepmac.core.errors import InputError
from deepmac.inference import find
from deepmac.inference.find import ModelFolder, find_model


def files(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["params.yaml"], ModelFolder("")),
        (["params.yaml", "saved_model/saved_model.pb"], ModelFolder("")),
        (["pipeline.config", "checkpoint/ckpt-0.index"], ModelFolder("")),
        (["pipeline.config", "checkpoint/ckpt-0.index", "saved_model/saved_model.pb"], ModelFolder("")),
        (["pipeline.config"], ModelFolder("")),  # loading says that the checkpoint is missing
        (["pipeline.config", "saved_model/saved_model.pb"], ModelFolder("saved_model", is_graph=True)),
        (["saved_model/saved_model.pb"], ModelFolder("saved_model", is_graph=True)),
        (["saved_model.pb"], ModelFolder("", is_graph=True)),
    ],
)
def test_finds_what_a_folder_holds(names, found, tmp_path):
    folder = files(tmp_path, *names)
    expected = ModelFolder(tmp_path / found.folder, found.is_graph)
    assert find_model(folder) == find_model(str(folder)) == expected


def test_a_published_name_is_downloaded_unless_it_is_a_folder(tmp_path, monkeypatch):
    name = "deepmac_1024x1024_coco17"
    downloaded = files(tmp_path / "cache", "pipeline.config", "checkpoint/ckpt-0.index")
    monkeypatch.setattr(find, "published_model", {name: downloaded}.__getitem__)
    monkeypatch.chdir(tmp_path)
    assert find_model(name) == ModelFolder(downloaded)
    files(tmp_path / name, "params.yaml")
    assert find_model(name).folder.absolute() == tmp_path / name


def test_what_is_no_model_lists_everything_accepted(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError) as error:
            find_model(path)
        for accepted in (
            "'mini'",
            "'deepmac_1024x1024_coco17'",
            "params.yaml",
            "pipeline.config",
            "checkpoint/",
            "saved_model/",
        ):
            assert accepted in str(error.value)
