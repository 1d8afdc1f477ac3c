"""Trains a model on a data set of one's own: boxes for all classes, masks for some.

Everything lies in one folder: `records/`, `start/` (what training begins with), `training/` (checkpoints,
summaries), and at the end the model, its figures and a contact sheet. Each part appears when it is complete,
so that a run which was killed goes on where it was when it is started again.
"""

import dataclasses
import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf
import tf_keras
from official.core import config_definitions, exp_factory

from deepmac import configs
from deepmac.core.errors import InputError
from deepmac.core.files import atomic_folder, refuse_occupied, refuse_pattern, write_text
from deepmac.data.classes import read_classes, write_classes
from deepmac.data.data_sets import read_annotation_files
from deepmac.data.tfrecords import write_tfrecords
from deepmac.inference.find import QUALITY_FILE, find_model
from deepmac.inference.load import build_model, normalization, trained_model, without_warnings
from deepmac.modeling.mask_heads import build_mask_head
from deepmac.modeling.model import build_deepmac, save_model
from deepmac.training.finetune_report import TABLE_FILE, write_report
from deepmac.training.runner import train

_REQUEST_FILE = "request.json"
_BATCH_SIZE = 4
_MOST_MASKS = 4  # of a picture, that a step of training predicts
_EVALUATIONS = 4
_LEAST_DETECTIONS = 32  # of a picture, that the model finds in the end: new pictures may have more objects
_RARE = -4.6  # logit of 0.01: what new classes begin with, everywhere, as in RetinaNet (arXiv 1708.02002)
_ENLARGED = 1.5  # pictures, at least, unless they are larger than the model's input: masks come out finer
_INPUT_STEP = 128  # pixels that sides of inputs are multiples of, which every backbone can take


@dataclasses.dataclass(frozen=True)
class OwnData:
    """A data set of one's own."""

    annotations: str  # file in COCO format, or a folder of annotations and pictures
    images: str | None = None  # folder of its pictures; None: `annotations` has them
    masks_of: tuple[str, ...] = ()  # names of the classes whose masks are used; empty: of all that have some
    val_annotations: str | None = None  # to validate with, of pictures in the same folder
    val_fraction: float = 0.2  # where there are none, the part of the pictures that is drawn for it

    def state(self) -> dict:
        """What tells one data set from another: hashes of the files, and the options."""
        files = {"annotations": self.annotations, "val_annotations": self.val_annotations}
        hashes = {
            name: hashlib.sha256(Path(file).read_bytes()).hexdigest() if Path(file).is_file() else str(file)
            for name, file in files.items()
            if file
        }
        return hashes | {"masks_of": sorted(self.masks_of), "val_fraction": self.val_fraction}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained on a data set.

    All of the model that fits is restored: all but the part that tells classes apart, where their number is
    another one.
    """

    model: str = "mini"  # to start from, as `deepmac.load` takes it, except exported graphs
    steps: int | None = None  # of training; chosen by the number of pictures unless given
    mask_head: str | None = None  # `network_type` of one with random weights; None keeps the model's
    seed: int = 0  # of weights and of the order of the pictures

    def state(self) -> dict:
        """What tells one recipe from another: of the model a hash of its weights."""
        return dataclasses.asdict(self) | {"model": find_model(self.model).weights_sha256}


@without_warnings()
def finetune(
    data: OwnData,
    out: str | Path,
    recipe: Recipe = Recipe(),
    tell: Callable[[str], object] = print,
) -> str:
    """Trains a model on a data set, measures it, and writes it to a folder.

    Args:
        data: to train on and to validate with.
        out: new or empty folder, or one that the same call began to fill.
        recipe: how.
        tell: gets a line about what is being done.

    Returns:
        A table: masks in annotated boxes on classes with and without masks in training, and detections.

    Raises:
        InputError: unusable annotations, unknown names, no such model, or a folder of something else.
    """
    out = Path(out)
    refuse_pattern(out)
    start = trained_model(recipe.model)[0]
    if recipe.mask_head:
        start.model.mask_head.network_type = recipe.mask_head
        build_mask_head(start.model.mask_head)  # an unknown one is refused before anything is written
    _claim(out, data.state() | recipe.state())
    records, beginning, training = out / "records", out / "start", out / "training"
    try:
        if not records.exists():
            _write_records(data, records, tell)
        params = _experiment(start, records, data.masks_of, recipe)
    except InputError:
        if not beginning.exists():  # nothing is left of a call that is refused
            shutil.rmtree(records, ignore_errors=True)
            (out / _REQUEST_FILE).unlink()
        raise
    if not beginning.exists():
        with atomic_folder(beginning) as folder:
            tell(f"From {recipe.model}: {_warm_start(recipe, params, folder)}")
    params.task.init_checkpoint, params.task.init_checkpoint_modules = str(beginning), "all"
    if not (out / TABLE_FILE).exists():
        train(params, "train_and_eval", str(training))
        _keep_best(out, params)
        # Its own would make masks of classes without masks seem as good as those of the others.
        intercept, slope = find_model(recipe.model).calibration
        write_text(out / QUALITY_FILE, json.dumps({"intercept": intercept, "slope": slope}))
        write_report(out, Path(data.images or data.annotations), recipe.model, params.task)
    return (out / TABLE_FILE).read_text(encoding="utf-8")


def _claim(out: Path, request: dict) -> None:
    """Makes the folder this call's, which says so in a file; a call that ended before training loses it."""
    path = out / _REQUEST_FILE
    if not path.exists():
        refuse_occupied(out)
    elif json.loads(path.read_text(encoding="utf-8")) == request:
        return
    elif (out / "start").exists():
        raise InputError(
            f"{out} was begun with other annotations or options: repeat those, or name another folder"
        )
    shutil.rmtree(out / "records", ignore_errors=True)
    write_text(path, json.dumps(request))


def _write_records(data: OwnData, records: Path, tell: Callable[[str], object]) -> None:
    splits = read_annotation_files(data.annotations, data.images, data.val_annotations, data.val_fraction)
    if "val" not in splits:
        raise InputError(
            f"{data.annotations}: too few pictures to validate with some of them: add pictures, or give --val"
        )
    for name, split in splits.items():
        if not split.annotations:
            raise InputError(f"{split.name}: no box in the pictures drawn to validate with: give --val")
        if all(entry["iscrowd"] for entry in split.annotations):
            raise InputError(f"{split.name}: no boxes to learn from but crowd regions, which are no objects")
        tell(f"To {'train on' if name == 'train' else 'validate with'}: {split}")
    write_tfrecords(splits, records)


def _experiment(start: configs.DeepMACTaskConfig, records: Path, masks_of: Sequence[str], recipe: Recipe):
    """The experiment `deepmac_mini` with the network of `start`, for the classes and sizes of the records."""
    files = [records / f"instances_{split}.json" for split in ("train", "val")]
    truth, val = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    classes = read_classes(records) or []
    counts = [Counter(entry["image_id"] for entry in split["annotations"]) for split in (truth, val)]
    most = max(max(count.values()) for count in counts)
    params = exp_factory.get_exp_config("deepmac_mini")
    task = params.task
    task.model, task.losses.mask = start.model, start.losses.mask
    task.model.input_size = [_input_size(start.model.input_size[0], truth["images"])] * 2 + [3]
    task.model.num_classes = max(entry["id"] for entry in classes)
    task.model.max_num_instances = most
    task.model.detection_generator.max_detections = 2 * most  # evaluations take no longer than they must
    task.mask_num_subsamples = min(_MOST_MASKS, most)
    seen = task.allowed_masked_classes_ids = _seen_ids(classes, masks_of)
    used = sum(entry["masks"]["train"] for entry in classes if entry["id"] in seen)
    task.keep_masks = used < sum(entry["boxes"]["train"] for entry in classes) and not recipe.mask_head
    task.seed = recipe.seed
    task.annotation_file = str(records / "instances_val.json")
    task.train_data.input_path = f"{records}/train-*"
    task.validation_data.input_path = f"{records}/val-*"
    pixels = normalization(start)
    zoom = {"aug_scale_min": 0.7, "aug_scale_max": 1.4}
    # The same model after an interruption; on a GPU some kernels would be missing.
    task.train_data.deterministic = not tf.config.list_physical_devices("GPU")
    task.train_data.override({"global_batch_size": _BATCH_SIZE, "parser": pixels | zoom})
    task.validation_data.override({"global_batch_size": _BATCH_SIZE, "parser": pixels})
    params.trainer = _trainer(recipe.steps or default_steps(len(truth["images"])))
    has_masks = any(entry["masks"]["val"] for entry in classes if entry["id"] in seen)
    measured = "mask/seen" if has_masks else "box"
    params.trainer.best_checkpoint_eval_metric = f"detections/{measured}/AP"
    return params


def _input_size(side: int, images: Sequence[dict]) -> int:
    """The side of the network's input: the model's, or less for small pictures, which saves time."""
    longer_sides = sorted(max(image["height"], image["width"]) for image in images)
    enough = math.ceil(_ENLARGED * longer_sides[len(longer_sides) // 2] / _INPUT_STEP) * _INPUT_STEP
    return min(side, enough)


def _seen_ids(classes: Sequence[dict], masks_of: Sequence[str]) -> list[int]:
    """Ids of the classes whose masks are used."""
    with_masks = {entry["name"]: entry["id"] for entry in classes if entry["masks"]["train"]}
    if unknown := set(masks_of) - with_masks.keys():
        raise InputError(
            f"--masks-of: no training picture has a mask of {', '.join(sorted(unknown))}; there are masks of "
            f"{', '.join(with_masks) or 'nothing'}"
        )
    return sorted(with_masks[name] for name in masks_of or with_masks)


def default_steps(num_images: int) -> int:
    """Steps of training for a number of pictures: with four times as many, twice as many."""
    return max(120, round(24 * num_images**0.5))


def _trainer(steps: int) -> config_definitions.TrainerConfig:
    """The published schedule in so many steps, and something to see every two per cent."""
    loop = max(1, steps // 50)
    trainer = configs.trainer(steps, warmup_steps=steps // 10, interval=loop)
    trainer.steps_per_loop, trainer.checkpoint_interval, trainer.max_to_keep = loop, 5 * loop, 2
    trainer.validation_interval = -(-steps // (_EVALUATIONS * loop)) * loop
    return trainer


def _warm_start(recipe: Recipe, params, folder: Path) -> str:
    """Writes the checkpoint training starts from, and says what of it is new."""
    tf_keras.utils.set_random_seed(recipe.seed)
    source = build_model(*trained_model(recipe.model), "float32").checkpoint_items
    target = build_deepmac(params.task.model)
    new = []
    for part, layer in target.checkpoint_items.items():
        if part == "mask_head" and recipe.mask_head:
            new.append(f"mask head {recipe.mask_head}")
            continue
        for old, variable in zip(source[part].variables, layer.variables, strict=True):
            if old.shape == variable.shape:
                variable.assign(old)
                continue
            # On trained features, random kernels would begin with a huge loss, and so would frequent objects.
            start = 0.0 if variable.shape.rank == 4 else _RARE
            variable.assign(tf.fill(variable.shape, start))
            new.append(variable.name.removesuffix(":0").partition("/")[2])
    save_model(target, params, folder)
    return f"all restored, but what begins anew: {', '.join(new) or 'nothing'}"


def _keep_best(out: Path, params) -> None:
    """Writes the best checkpoint of a training as a model that can be loaded, and trained on from there."""
    model = build_deepmac(params.task.model)
    best = tf.train.latest_checkpoint(out / "training" / "best_ckpt")
    status = tf.train.Checkpoint(**model.checkpoint_items).restore(best)
    status.expect_partial().assert_existing_objects_matched()
    params.task.init_checkpoint, params.task.init_checkpoint_modules = str(out), "all"
    found = params.task.model.detection_generator
    found.max_detections = max(_LEAST_DETECTIONS, found.max_detections)
    save_model(model, params, out)
    write_classes(read_classes(out / "training") or [], out)
