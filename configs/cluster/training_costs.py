"""What the published trainings take: operations counted in the training step, hours and price estimated.

    python configs/cluster/training_costs.py voc_only --price v3=1.50

Nothing is trained: the step of the whole model is traced, which takes some minutes and 5 GB of memory.
"""

import gc
import tempfile
from pathlib import Path
from typing import NamedTuple

import click
import pandas as pd
import tensorflow as tf
import tf_keras
from official.core import task_factory

from deepmac.core.errors import InputError
from deepmac.core.machine import flops
from deepmac.inference.load import without_warnings
from deepmac.suite.study import row_config
from deepmac.suite.suite import Row, Suite
from deepmac.suite.tables import markdown
from deepmac.training import mask_rcnn as mask_rcnn_task  # noqa: F401  # registers the task
from deepmac.training.task import DeepMACTask  # noqa: F401  # registers the task

# Published peak of a chip in operations a second: TPUs multiply in bfloat16 whatever the variables' type,
# A100s in TensorFloat-32, TensorFlow's default for float32.
CHIPS = {"v3": 123e12, "v4": 275e12, "A100": 156e12}
# Name -> chip, number of chips, and number of devices the batch is split over. The numbers in TPU names count
# cores, of which a chip has two; on a v4 both are one device.
MACHINES = {
    "v3-32": ("v3", 16, 32),
    "v3-128": ("v3", 64, 128),
    "v4-32": ("v4", 16, 16),
    "v4-128": ("v4", 64, 64),
    "16 A100": ("A100", 16, 16),
}
# Rows of profile `paper`, one for each network: `non_voc_only` and `all_classes` take what `voc_only` takes.
_ROWS = (
    *("voc_only_hourglass52", "voc_only"),
    *("mask_rcnn_default_head", "mask_rcnn", "mask_rcnn_resnet101", "mask_rcnn_spinenet"),
)


class TrainingCost(NamedTuple):
    """Of one training.

    Attributes:
        operations: floating-point operations of a training step for one picture, counted.
        batch: pictures of a step.
        steps: of the whole training.
    """

    operations: int
    batch: int
    steps: int

    @property
    def total(self) -> int:
        """Operations of the whole training."""
        return self.operations * self.batch * self.steps

    def chip_hours(self, chip: str, utilisation: float) -> float:
        """Estimates the hours one chip would take.

        Args:
            chip: of `CHIPS`.
            utilisation: part of the chip's peak that the training is assumed to reach, from 0 to 1.
        """
        return self.total / (CHIPS[chip] * utilisation) / 3600


def training_cost(row: Row) -> TrainingCost:
    """Counts the operations of a row's training: forward, backward and the weights' update."""
    config = row_config(row)
    batch = config.task.train_data.global_batch_size
    operations = _step_operations(config.task)
    tf_keras.backend.clear_session()  # a full-size model is not kept while the next one is traced
    gc.collect()
    return TrainingCost(operations, batch, config.trainer.train_steps)


def _step_operations(config) -> int:
    """Operations of a step with a batch of one picture."""
    config.init_checkpoint = None
    config.train_data.global_batch_size = 1
    with tempfile.NamedTemporaryFile() as records, without_warnings():  # empty: only shapes are needed
        config.train_data.input_path = records.name
        task = task_factory.get_task(config)
        inputs = task.build_inputs(config.train_data).element_spec
        model = task.build_model()
        optimizer = tf_keras.optimizers.SGD()  # keeps nothing for each weight: less memory
        step = tf.function(lambda *inputs: task.train_step(inputs, model, optimizer), autograph=False)
        return flops(step.get_concrete_function(*inputs))


def cost_table(costs: dict[str, TrainingCost], utilisation: float, prices: dict[str, float]) -> str:
    """Formats costs as a Markdown table.

    Args:
        costs: row -> cost.
        utilisation: see `TrainingCost.chip_hours`.
        prices: chip -> price of a chip-hour, for chips whose price shall be shown.
    """
    records = []
    for name, cost in costs.items():
        hours = {chip: cost.chip_hours(chip, utilisation) for chip in CHIPS}
        record = {
            "row": f"`{name}`",
            "TFLOP a picture, counted": f"{cost.operations / 1e12:.2f}",
            "batch": f"{cost.batch}",
            "steps": f"{cost.steps:,}",
            "EFLOP": f"{cost.total / 1e18:.1f}",
        }
        record |= {f"{chip}: chip-hours": f"{hours[chip]:,.0f}" for chip in CHIPS}
        record |= {f"{chip}: price": f"{hours[chip] * price:,.0f}" for chip, price in prices.items()}
        for machine, (chip, count, devices) in MACHINES.items():  # an even split or none
            record[f"{machine}: hours"] = "-" if cost.batch % devices else f"{hours[chip] / count:.1f}"
        records.append(record)
    return markdown(pd.DataFrame(records))


def _parsed_prices(context, parameter, texts: tuple[str, ...]) -> dict[str, float]:
    prices = {}
    for text in texts:
        chip, _, price = text.partition("=")
        try:
            prices[chip] = float(price)
        except ValueError:
            raise click.BadParameter(f"{text} is not CHIP=NUMBER, such as v3=1.50") from None
        if chip not in CHIPS:
            raise click.BadParameter(f"unknown chip {chip}: choose from {', '.join(CHIPS)}")
    return prices


@click.command()
@click.argument("rows", nargs=-1, metavar="[ROW]...")
@click.option(
    "--utilisation",
    default=0.25,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Assumed part of a chip's peak.",
)
@click.option(
    "--price",
    "prices",
    multiple=True,
    metavar="CHIP=NUMBER",
    callback=_parsed_prices,
    help="Price of a chip-hour (repeatable).",
)
def main(rows, utilisation, prices):
    """Print what rows of profile `paper` take to train; by default one for each network."""
    try:
        suite = Suite.load("paper", Path())
        costs = {name: training_cost(suite.row(name, seed=0)) for name in rows or _ROWS}
    except InputError as error:
        raise click.UsageError(str(error)) from error
    click.echo(cost_table(costs, utilisation, prices))
    click.echo(
        f"\nHours and prices are estimates: nothing was run, and {utilisation:.0%} of peak is assumed."
    )


if __name__ == "__main__":
    main()
