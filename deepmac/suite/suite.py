"""What is reproduced: profiles, trained rows and notebooks of `configs/reproduction.yaml`."""

import copy
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from deepmac.core.errors import InputError

SUITE_FILE = Path("configs/reproduction.yaml")
# What may stand in it: a misspelt key would change what is run without a word.
_RECIPE_KEYS = {"each", "config", "experiment", "set", "init", "init_checkpoint"}
_DETAIL_KEYS = {"config", "set", "init", "init_checkpoint", "steps", "dataset"}
_PROFILE_KEYS = {
    *("experiment", "configs", "dataset", "shown", "seeds", "init_seed", "steps"),
    *("rows", "single_seed_rows", "details", "recipes"),
}
_NOTEBOOK_KEYS = {"title", "rows", "alone"}
_LINE_KEYS = {"each", "row", "name", "base", "metric", "published", "source"}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Where pictures come from.

    Attributes:
        source: "scenes", composed, or "coco", a folder in COCO layout.
        arguments: of `compose_scenes`; or `coco_dir` and, for a part of it, `ids`, a folder with a list
            of image ids for each split.
        root: the checkout, which `ids` is relative to.
    """

    source: str
    arguments: dict[str, Any]
    root: Path = Path()

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
        file_content: what stood in it when the suite was loaded: a row stays what it was, whoever edits the
            file while the suite runs.
        experiment: registered Model Garden experiment.
        overrides: configuration on top of the file: the row's options and what the profile shortens.
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
        return copy.deepcopy(_merged(self.file_content, self.overrides))

    @property
    def steps(self) -> int:
        """Length of its schedule; 0 where the experiment decides."""
        return self.config.get("trainer", {}).get("train_steps", 0)

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
class TableRow:
    """A line of a table: a published value and the training runs that reproduce it, one a seed.

    Attributes:
        key: of the row in `reproduction.yaml`.
        name: of the line.
        base: key of the line it is compared with; None if with none.
        metric: of the published value; None if none was published.
        published: its value in percent; with a base, the published difference from that.
        source: where it was published, and for which model.
        runs: one for each seed.
    """

    key: str
    name: str
    base: str | None
    metric: str | None
    published: float | None
    source: str | None
    runs: tuple[Row, ...]


@dataclasses.dataclass(frozen=True)
class Suite:
    """The rows and notebooks of a profile.

    Attributes:
        profile: its name.
        settings: the profile, as it stands in `reproduction.yaml`.
        recipes: name of a row -> how it is trained, or the name of the row it is the same as.
        notebooks: name -> lines of its table.
        root: the checkout.
        configurations: content of the configuration files that recipes name, as far as they exist.
    """

    profile: str
    settings: dict[str, Any]
    recipes: dict[str, Any]
    notebooks: dict[str, Any]
    root: Path
    configurations: dict[Path, dict[str, Any]]

    @classmethod
    def load(cls, profile: str, root: str | Path = ".") -> "Suite":
        """Reads `configs/reproduction.yaml`.

        Args:
            profile: a name under `profiles`.
            root: the checkout.

        Raises:
            InputError: not in a checkout, no such profile, or an unknown key in the file.
        """
        root = Path(root)
        path = root / SUITE_FILE
        if not path.is_file():
            raise InputError(f"{path} not found: run this in a checkout of deepmac (it holds the notebooks)")
        document = yaml.safe_load(path.read_text())
        _check_keys(document)
        if profile not in document["profiles"]:
            raise InputError(f"unknown profile {profile!r}: choose from {', '.join(document['profiles'])}")
        settings = document["profiles"][profile]
        settings |= {key: list(_row_names(settings.get(key, ()))) for key in ("rows", "single_seed_rows")}
        listed = document["recipes"] | settings.get("recipes", {})  # a profile may have recipes of its own
        recipes = dict(pair for name, recipe in listed.items() for pair in _expand(name, recipe))
        files = {
            root / "configs" / settings["configs"] / part["config"]
            for part in (*recipes.values(), *settings.get("details", {}).values())
            if isinstance(part, dict) and "config" in part
        }
        configurations = {file: read_configuration(file) for file in files if file.is_file()}
        return cls(profile, settings, recipes, document["notebooks"], root, configurations)

    @property
    def dataset(self) -> Dataset:
        """The profile's pictures."""
        return self._dataset(self.settings["dataset"])

    @property
    def shown_dataset(self) -> Dataset:
        """The pictures that figures show."""
        return self._dataset(self.settings.get("shown", self.settings["dataset"]))

    def seeds(self, key: str) -> list[int]:
        """The seeds a row is trained with; none if the profile leaves it out or has no recipe for it."""
        if key not in self.recipes:
            return []
        key = self._resolved(key)
        if key in self.settings["rows"]:
            return self.settings["seeds"]
        return self.settings["seeds"][:1] if key in self.settings["single_seed_rows"] else []

    def row(self, key: str, seed: int) -> Row:
        """The training run a row's name stands for in this profile."""
        key = self._resolved(key)
        spec = self.settings | self.recipes[key] | self.settings.get("details", {}).get(key, {})
        schedule = _schedule(spec["steps"]) if "steps" in spec else {}
        config_file = self.root / "configs" / self.settings["configs"] / spec["config"]
        if config_file not in self.configurations:
            raise InputError(f"row {key!r} needs {config_file}, which is not there")
        return Row(
            key=key,
            config_file=config_file,
            file_content=self.configurations[config_file],
            experiment=spec["experiment"],
            overrides=_merged(_nested(spec.get("set", {})), schedule),
            dataset=self._dataset(spec["dataset"]),
            seed=seed,
            init=self.row(spec["init"], spec.get("init_seed", seed)) if spec.get("init") else None,
            init_checkpoint=spec.get("init_checkpoint"),
        )

    def table_rows(self, notebook: str) -> list[TableRow]:
        """The lines of a notebook's table that this profile runs, in order."""
        lines = []
        for line in self.lines(notebook):
            if seeds := self.seeds(line["row"]):
                runs = tuple(self.row(line["row"], seed) for seed in seeds)
                optional = (line.get(name) for name in ("base", "metric", "published", "source"))
                lines.append(TableRow(line["row"], line["name"], *optional, runs))
        return lines

    def not_run(self, notebook: str) -> list[str]:
        """Names of the lines of a notebook's table that this profile leaves out."""
        return [line["name"] for line in self.lines(notebook) if not self.seeds(line["row"])]

    def lines(self, notebook: str) -> list[dict[str, Any]]:
        """All lines of a notebook's table, as they stand in `reproduction.yaml`."""
        lines = ((line["row"], line) for line in self.notebooks[notebook]["rows"])
        return [line for name, spec in lines for _, line in _expand(name, spec)]

    def _dataset(self, spec: dict[str, Any]) -> Dataset:
        [(source, arguments)] = spec.items()
        return Dataset(source, arguments, self.root)

    def _resolved(self, key: str) -> str:
        """The name of the row itself, for one that is the same as another."""
        if key not in self.recipes:
            raise InputError(f"no row {key!r} in {SUITE_FILE}: it has {', '.join(self.recipes)}")
        recipe = self.recipes[key]
        return self._resolved(recipe) if isinstance(recipe, str) else key


def read_configuration(path: Path) -> dict[str, Any]:
    """Content of a configuration file; an empty file changes nothing of its experiment."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def _check_keys(document: dict[str, Any]):
    """Raises InputError for a key that means nothing."""
    sections = [
        ("recipe", document["recipes"].items(), _RECIPE_KEYS),
        ("profile", document["profiles"].items(), _PROFILE_KEYS),
        ("notebook", document["notebooks"].items(), _NOTEBOOK_KEYS),
    ]
    for name, profile in document["profiles"].items():
        sections.append((f"recipe of profile {name},", profile.get("recipes", {}).items(), _RECIPE_KEYS))
        sections.append((f"details of profile {name},", profile.get("details", {}).items(), _DETAIL_KEYS))
    for name, notebook in document["notebooks"].items():
        lines = [(line["row"], line) for line in notebook["rows"]]  # several may share a pattern
        sections.append((f"line of notebook {name},", lines, _LINE_KEYS))
    for kind, entries, known in sections:
        for name, entry in entries:
            unknown = set(entry) - known if isinstance(entry, dict) else ()
            if unknown:
                raise InputError(
                    f"{SUITE_FILE}: {kind} {name}: unknown {', '.join(sorted(unknown))}; "
                    f"it may have {', '.join(sorted(known))}"
                )


def _row_names(entries: list) -> Iterator[str]:
    """Yields the names a list of rows stands for."""
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        else:
            yield from (name for name, _ in _expand(entry["row"], entry))


def _expand(key: str, spec: Any) -> Iterator[tuple[str, Any]]:
    """Yields (name, content) for every combination of the values under `each`, put in for their {names}."""
    if isinstance(spec, str) or "each" not in spec:
        yield key, spec
        return
    spec = dict(spec)
    names, values = zip(*spec.pop("each").items(), strict=True)
    for combination in itertools.product(*values):
        yield from _replaced({key: spec}, dict(zip(names, combination, strict=True))).items()


def _replaced(value, words: dict[str, Any]):
    """Puts words in for their {names} in all strings of a document; a whole "{name}" keeps its type."""
    if isinstance(value, dict):
        return {_replaced(key, words): _replaced(part, words) for key, part in value.items()}
    if isinstance(value, list):
        return [_replaced(part, words) for part in value]
    if not isinstance(value, str):
        return value
    for name, word in words.items():
        if value == f"{{{name}}}":
            return word
        value = value.replace(f"{{{name}}}", str(word))
    return value


def _nested(options: dict[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} -> {"a": {"b": 1}}."""
    tree = {}
    for path, value in options.items():
        for name in reversed(path.split(".")):
            value = {name: value}
        tree = _merged(tree, value)
    return tree


def _merged(base: dict, top: dict) -> dict:
    """`base` with the values of `top`, level by level."""
    merged = {**base, **top}
    for key in base.keys() & top.keys():
        if isinstance(base[key], dict) and isinstance(top[key], dict):
            merged[key] = _merged(base[key], top[key])
    return merged


def _schedule(steps: int) -> dict[str, Any]:
    """The published schedule, warm-up over a tenth of the steps, shortened to `steps`."""
    warmup = steps // 10
    loop = next(size for size in (100, 50, 25, 10, 5, 1) if steps % size == 0)
    checkpoints = loop * max(1, steps // loop // 4)
    return {
        "trainer": {
            "train_steps": steps,
            "steps_per_loop": loop,
            "summary_interval": loop,
            "checkpoint_interval": checkpoints,
            "validation_interval": steps,
            "optimizer_config": {
                "learning_rate": {"cosine": {"decay_steps": steps - warmup, "offset": warmup}},
                "warmup": {"linear": {"warmup_steps": warmup}},
            },
        }
    }


def _sha256(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
