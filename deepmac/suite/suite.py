"""What is reproduced: profiles, trained rows and notebooks of `configs/reproduction.yaml`."""

import copy
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import yaml

from deepmac.core.errors import InputError
from deepmac.data.data_sets import read_image_ids

SUITE_FILE = Path("configs/reproduction.yaml")
_Pictures = dict[str, dict[str, Any]]  # source -> arguments, as in `Dataset`


class _Entry(pydantic.BaseModel, extra="forbid", frozen=True):
    """A part of `reproduction.yaml`, whose head explains the keys.

    Others are errors: a misspelt key would change what is run without a word.
    """


class Recipe(_Entry):
    """How a row is trained, or, under a profile's `details`, what is different there."""

    config: str = ""
    experiment: str | None = None
    set: dict[str, Any] = {}
    init: str | None = None
    init_checkpoint: str | None = None
    steps: int | None = None
    dataset: _Pictures | None = None


class Profile(_Entry):
    """On which pictures, how long, and which rows; `models` says in words what is trained."""

    models: str = ""
    experiment: str
    configs: str
    dataset: _Pictures
    shown: _Pictures | None = None
    seeds: list[int]
    init_seed: int | None = None
    steps: int | None = None
    rows: list[str]
    single_seed_rows: list[str] = []
    details: dict[str, Recipe] = {}
    recipes: dict[str, Recipe | str] = {}


class TableRow(_Entry):
    """A line of a table: a published value, in percent, and the training runs that reproduce it.

    Attributes:
        key: of the row in `reproduction.yaml`; None for values of others that are not reproduced here.
        runs: the `Row`s of a profile, one for each seed.
    """

    key: str | None = pydantic.Field(None, alias="row")
    name: str
    base: str | None = None
    metric: str | None = None
    published: float | None = None
    source: str | None = None
    runs: tuple[Any, ...] = ()


class Notebook(_Entry):
    """A notebook: the lines of its table, and whether it runs alone."""

    title: str = ""
    rows: list[TableRow]
    alone: bool = False


class _Document(_Entry):
    """`reproduction.yaml`, with every `each` written out."""

    recipes: dict[str, Recipe | str]
    profiles: dict[str, Profile]
    notebooks: dict[str, Notebook]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Where pictures come from.

    Attributes:
        source: "scenes", composed, or "coco", a folder in COCO layout.
        arguments: of `compose_scenes`; or `coco_dir`, for other pictures than COCO's a `description`, and for
            a part of them `ids`, a folder with a list of image ids for each split.
        root: the checkout, which `ids` is relative to.
    """

    source: str
    arguments: dict[str, Any]
    root: Path = Path()

    def __str__(self) -> str:
        """What the pictures are, in words that stand beside results."""
        if self.source == "scenes":
            styles = self.arguments.get("styles", {}).items()
            named = [f"{name.replace('_', '-').replace('voc', 'VOC')} classes by {by}" for name, by in styles]
            kind = "composed drawings" + (f", {' and '.join(named)}" if named else "")
            counts = [self.arguments["images"], self.arguments["val_images"]]
        else:
            kind = self.arguments.get("description", "photographs of COCO 2017")
            if "ids" not in self.arguments:
                return f"{kind}: train2017 to learn from, val2017 to measure on"
            folder = self.root / self.arguments["ids"]
            counts = [len(read_image_ids(folder / f"{split}.txt")) for split in ("train2017", "val2017")]
        return f"{kind}: {counts[0]:,} to learn from, {counts[1]:,} to measure on"

    @property
    def sha256(self) -> str:
        """Hash of everything that decides the pictures."""
        return _sha256({self.source: self.arguments})


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One training run.

    Attributes:
        key: name in `reproduction.yaml`.
        config_file: YAML on top of the experiment.
        file_content: what stood in it when the suite read it: a row stays what it was, whoever edits the file
            while the suite runs.
        experiment: registered Model Garden experiment.
        overrides: options on top of the file, as {"trainer.train_steps": 600}: the row's own, and what the
            profile shortens.
        dataset: what it is trained and evaluated on.
        seed: of initial weights and input order.
        init: the row whose checkpoint it starts from.
        init_checkpoint: a checkpoint it starts from that is no row's.
    """

    key: str
    config_file: Path
    file_content: dict[str, Any]
    experiment: str
    overrides: dict[str, Any]
    dataset: Dataset
    seed: int
    init: "Row | None" = None
    init_checkpoint: str | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The configuration file's content, with the row's overrides; a copy that may be changed."""
        config = copy.deepcopy(self.file_content)
        for path, value in self.overrides.items():
            *parents, name = path.split(".")
            part = config
            for parent in parents:
                part = part.setdefault(parent, {})
            part[name] = copy.deepcopy(value)
        return config

    @property
    def sha256(self) -> str:
        """Hash of everything that decides the result, wherever it is computed."""
        return _sha256(
            {
                "experiment": self.experiment,
                "config": self.config,
                "dataset": self.dataset.sha256,
                "seed": self.seed,
                "init": self.init.sha256 if self.init else self.init_checkpoint,
            }
        )

    @property
    def folder_name(self) -> str:
        """Name of its folder and of its result: readable, unique to its hash."""
        return f"{self.key}-seed{self.seed}-{self.sha256[:12]}"

    def with_predecessors(self) -> Iterator["Row"]:
        """Yields the rows that must be trained before, in order, and the row itself."""
        if self.init:
            yield from self.init.with_predecessors()
        yield self


@dataclasses.dataclass(frozen=True)
class Suite:
    """The rows and notebooks of a profile.

    Attributes:
        profile: its name.
        settings: the profile, as it stands in `reproduction.yaml`.
        recipes: name of a row -> how it is trained, or the name of the row it is the same as.
        notebooks: name -> notebook.
        root: the checkout.
        configurations: content of the configuration files of rows so far.
    """

    profile: str
    settings: Profile
    recipes: dict[str, Recipe | str]
    notebooks: dict[str, Notebook]
    root: Path
    configurations: dict[Path, dict[str, Any]] = dataclasses.field(default_factory=dict)

    @classmethod
    def load(cls, profile: str, root: str | Path = ".") -> "Suite":
        """Reads `configs/reproduction.yaml` of a checkout.

        Raises:
            InputError: not in a checkout, no such profile, or an unknown key in the file.
        """
        root = Path(root)
        path = root / SUITE_FILE
        if not path.is_file():
            raise InputError(f"{path} not found: run this in a checkout of deepmac (it holds the notebooks)")
        try:
            document = _Document.model_validate(_written_out(yaml.safe_load(path.read_text())))
        except pydantic.ValidationError as error:
            # An unknown key says more than a missing one.
            problem = max(error.errors(), key=lambda problem: problem["type"] == "extra_forbidden")
            place = ".".join(str(part) for part in problem["loc"] if part != "Recipe")
            raise InputError(f"{SUITE_FILE}: {place}: {problem['msg']}") from error
        if profile not in document.profiles:
            raise InputError(f"unknown profile {profile!r}: choose from {', '.join(document.profiles)}")
        settings = document.profiles[profile]
        recipes = document.recipes | settings.recipes  # a profile may have recipes of its own
        return cls(profile, settings, recipes, document.notebooks, root)

    @property
    def dataset(self) -> Dataset:
        """The profile's pictures."""
        return self._dataset(self.settings.dataset)

    @property
    def shown_dataset(self) -> Dataset:
        """The pictures that figures show."""
        return self._dataset(self.settings.shown or self.settings.dataset)

    def seeds(self, key: str | None) -> list[int]:
        """The seeds a row is trained with; none if the profile leaves it out or has no recipe for it."""
        if key not in self.recipes:
            return []
        key = self._resolved(key)
        if key in self.settings.rows:
            return self.settings.seeds
        return self.settings.seeds[:1] if key in self.settings.single_seed_rows else []

    def row(self, key: str, seed: int) -> Row:
        """The training run a row's name stands for in this profile."""
        key, settings = self._resolved(key), self.settings
        changes = settings.details.get(key, Recipe())
        recipe = self.recipes[key].model_copy(update=changes.model_dump(exclude_unset=True))
        config_file = self.root / "configs" / settings.configs / recipe.config
        if config_file not in self.configurations:
            if not config_file.is_file():
                raise InputError(f"row {key!r} needs {config_file}, which is not there")
            # An empty file changes nothing of its experiment.
            self.configurations[config_file] = yaml.safe_load(config_file.read_bytes()) or {}
        steps = recipe.steps or settings.steps
        init_seed = seed if settings.init_seed is None else settings.init_seed
        return Row(
            key=key,
            config_file=config_file,
            file_content=self.configurations[config_file],
            experiment=recipe.experiment or settings.experiment,
            overrides=recipe.set | (_schedule(steps) if steps else {}),
            dataset=self._dataset(recipe.dataset or settings.dataset),
            seed=seed,
            init=self.row(recipe.init, init_seed) if recipe.init else None,
            init_checkpoint=recipe.init_checkpoint,
        )

    def table_rows(self, notebook: str) -> list[TableRow]:
        """The lines of a notebook's table that this profile runs, in order."""
        lines = []
        for line in self.notebooks[notebook].rows:
            if seeds := self.seeds(line.key):
                runs = tuple(self.row(line.key, seed) for seed in seeds)
                lines.append(line.model_copy(update={"runs": runs}))
        return lines

    def not_run(self, notebook: str) -> list[TableRow]:
        """The lines of a notebook's table that this profile leaves out, or that nobody reproduces here."""
        return [line for line in self.notebooks[notebook].rows if not self.seeds(line.key)]

    @property
    def quoted(self) -> set[str]:
        """Names of lines that nobody reproduces here: published values of other papers' methods."""
        return {line.name for notebook in self.notebooks.values() for line in notebook.rows if not line.key}

    def _dataset(self, pictures: _Pictures) -> Dataset:
        [(source, arguments)] = pictures.items()
        return Dataset(source, arguments, self.root)

    def _resolved(self, key: str) -> str:
        """The name of the row itself, for one that is the same as another."""
        if key not in self.recipes:
            raise InputError(f"no row {key!r} in {SUITE_FILE}: it has {', '.join(self.recipes)}")
        recipe = self.recipes[key]
        return self._resolved(recipe) if isinstance(recipe, str) else key


def _written_out(document: dict[str, Any]) -> dict[str, Any]:
    """The document with an entry for every combination of the values under an `each`."""
    for part in (document, *document["profiles"].values()):
        recipes = part.get("recipes", {})
        part["recipes"] = dict(pair for name, recipe in recipes.items() for pair in _expand(name, recipe))
    for profile in document["profiles"].values():
        for key in {"rows", "single_seed_rows"} & profile.keys():
            entries = [entry if isinstance(entry, dict) else {"row": entry} for entry in profile[key]]
            profile[key] = [name for entry in entries for name, _ in _expand(entry["row"], entry)]
    for notebook in document["notebooks"].values():
        notebook["rows"] = [
            part for line in notebook["rows"] for _, part in _expand(line.get("name", ""), line)
        ]
    return document


def _expand(name: str, entry: Any) -> Iterator[tuple[str, Any]]:
    """Yields (name, content) for every combination of the values under `each`, put in for their {names}."""
    if isinstance(entry, str) or "each" not in entry:
        yield name, entry
        return
    each = entry["each"]
    template = json.dumps({name: {key: value for key, value in entry.items() if key != "each"}})
    for values in itertools.product(*each.values()):
        text = template
        for word, value in zip(each, values, strict=True):
            text = text.replace(f"{{{word}}}", str(value))
        yield from json.loads(text).items()


def _schedule(steps: int) -> dict[str, int]:
    """The published schedule, warm-up over a tenth of the steps, shortened to `steps`: overrides of a row."""
    warmup = steps // 10
    loop = next(size for size in (100, 50, 25, 10, 5, 1) if steps % size == 0)
    optimizer = "trainer.optimizer_config"
    return {
        "trainer.train_steps": steps,
        "trainer.steps_per_loop": loop,
        "trainer.summary_interval": loop,
        "trainer.checkpoint_interval": loop * max(1, steps // loop // 4),
        "trainer.validation_interval": steps,
        f"{optimizer}.learning_rate.cosine.decay_steps": steps - warmup,
        f"{optimizer}.learning_rate.cosine.offset": warmup,
        f"{optimizer}.warmup.linear.warmup_steps": warmup,
    }


def _sha256(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
