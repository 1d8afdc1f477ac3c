"""What is reproduced: profiles, trained rows and notebooks of `configs/reproduction.yaml`."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from deepmac.errors import InputError

SUITE_FILE = Path("configs/reproduction.yaml")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Where pictures come from.

    Attributes:
        source: "scenes", composed, or "coco", a folder in COCO layout.
        arguments: of `compose_scenes`; or `coco_dir` and, for a part of it, `ids`, a folder with a list
            of image ids for each split.
    """

    source: str
    arguments: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Hash of everything that decides the pictures."""
        return _sha256({self.source: self.arguments})


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One training run.

    Attributes:
        key: name in `reproduction.yaml`, also the start of its folder's name.
        config_file: YAML on top of the experiment, relative to `configs/`.
        experiment: registered Model Garden experiment.
        overrides: configuration on top of the file: what the profile shortens.
        dataset: what it is trained and evaluated on.
        seed: of initial weights and input order.
        init: the row whose checkpoint it starts from.
        init_checkpoint: a checkpoint it starts from that is no row's.
    """

    key: str
    config_file: Path
    experiment: str
    overrides: dict[str, Any]
    dataset: Dataset
    seed: int
    init: "Row | None" = None
    init_checkpoint: str | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The configuration file's content."""
        return yaml.safe_load(self.config_file.read_text())

    @property
    def sha256(self) -> str:
        """Hash of everything that decides the result, wherever it is computed."""
        return _sha256(
            {
                "experiment": self.experiment,
                "config": self.config,
                "overrides": self.overrides,
                "dataset": self.dataset.sha256,
                "seed": self.seed,
                "init": self.init.sha256 if self.init else self.init_checkpoint,
            }
        )

    @property
    def folder_name(self) -> str:
        """Name of its folder: readable, unique to its hash."""
        return f"{self.key}-seed{self.seed}-{self.sha256[:12]}"


@dataclasses.dataclass(frozen=True)
class TableRow:
    """A line of a table: a published value and the training runs that reproduce it, one a seed.

    Attributes:
        key: of the row in `reproduction.yaml`.
        name: of the line.
        model: what the profile trains in place of the published model.
        metric: the published one.
        published: its value in percent.
        source: where it was published, and for which model.
        runs: one for each seed.
    """

    key: str
    name: str
    model: str
    metric: str
    published: float | None
    source: str | None
    runs: tuple[Row, ...]


@dataclasses.dataclass(frozen=True)
class Suite:
    """The rows and notebooks of a profile."""

    profile: str
    settings: dict[str, Any]
    notebooks: dict[str, Any]
    root: Path

    @classmethod
    def load(cls, profile: str, root: str | Path = ".") -> "Suite":
        """Reads `configs/reproduction.yaml`.

        Args:
            profile: a name under `profiles`.
            root: the checkout.

        Raises:
            InputError: not in a checkout, or no such profile.
        """
        root = Path(root)
        path = root / SUITE_FILE
        if not path.is_file():
            raise InputError(f"{path} not found: run this in a checkout of deepmac (it holds the notebooks)")
        document = yaml.safe_load(path.read_text())
        if profile not in document["profiles"]:
            raise InputError(f"unknown profile {profile!r}: choose from {', '.join(document['profiles'])}")
        return cls(profile, document["profiles"][profile], document["notebooks"], root)

    @property
    def dataset(self) -> Dataset:
        """The profile's pictures."""
        return _dataset(self.settings["dataset"])

    def row(self, key: str, seed: int) -> Row:
        """The training run a key stands for in this profile."""
        rows = self.settings["rows"]
        if key not in rows:
            raise InputError(f"profile {self.profile} has no row {key!r}: it has {', '.join(rows)}")
        spec = rows[key]
        init = self.row(spec["init"], seed) if "init" in spec else None
        return Row(
            key=key,
            config_file=self.root / "configs" / spec["config"],
            experiment=self.settings["experiment"],
            overrides=_schedule(spec["steps"]) if "steps" in spec else {},
            dataset=_dataset(spec["dataset"]) if "dataset" in spec else self.dataset,
            seed=seed,
            init=init,
            init_checkpoint=spec.get("init_checkpoint"),
        )

    def table_rows(self, notebook: str) -> list[TableRow]:
        """The lines of a notebook's table that this profile runs, in order."""
        lines = []
        for spec in self.notebooks[notebook]["rows"]:
            if spec["row"] in self.settings["rows"]:
                runs = tuple(self.row(spec["row"], seed) for seed in self.settings["seeds"])
                published, source = spec.get("published"), spec.get("source")
                model = self.settings["rows"][spec["row"]]["model"]
                lines.append(
                    TableRow(spec["row"], spec["name"], model, spec["metric"], published, source, runs)
                )
        return lines


def _dataset(spec: dict[str, Any]) -> Dataset:
    [(source, arguments)] = spec.items()
    return Dataset(source, arguments)


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
