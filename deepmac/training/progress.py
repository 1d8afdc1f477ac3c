"""What a person sees of a training: a progress bar with the loss, or without a terminal a line every loop."""

import contextlib
import math
import sys
import time

from orbit import controller
from tqdm.auto import tqdm

from deepmac.modeling.mask_losses import MASK_LOSSES

KEPT_MASKS = "kept_masks"  # the loss of `task.keep_masks`
# Losses in the order of a line, with short names.
_LOSSES = {
    **{"ct_loss": "centre", "scale_loss": "size", "ct_offset_loss": "offset"},
    **{loss.name: loss.label for loss in MASK_LOSSES},
    KEPT_MASKS: "kept masks",
}
# Figures of an evaluation in a line; TensorBoard and evaluation.json have all.
_FIGURES = ("mask/AP", "mask/seen/AP", "mask/unseen/AP", "box/AP")
_SOURCES = {"detections": "detected", "gt_boxes": "in given boxes"}


class TrainingLog:
    """Tells of every training loop and every evaluation, in place of Orbit's dictionaries.

    An action for both: called with the output of the loop, or of the evaluation.
    """

    def __init__(self, global_step, train_steps: int):
        """Starts the clock; `global_step`, a `tf.Variable`, counts up to `train_steps`."""
        self._global_step, self._train_steps = global_step, train_steps
        self._step, self._time = int(global_step.numpy()), time.monotonic()
        # The first steps take much longer than all others: what is left is told by the last ones alone.
        bar = {"total": train_steps, "initial": self._step, "smoothing": 1, "desc": "training"}
        self._bar = tqdm(**bar, unit="step", disable=None)  # not shown without a terminal

    @contextlib.contextmanager
    def in_place_of_orbits(self):
        """Keeps Orbit from printing every figure of an evaluation, hundreds; its other messages stay."""
        original = controller._log
        controller._log = lambda message: None if "output:" in message else self.write(message.strip())
        try:
            yield
        finally:
            controller._log = original

    def write(self, line: str) -> None:
        """Writes a line, above the progress bar if there is one."""
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()

    def train(self, output) -> None:
        """Action after a training loop."""
        step, now = int(self._global_step.numpy()), time.monotonic()
        rate = (step - self._step) / max(now - self._time, 1e-9)
        self._bar.update(step - self._step)
        self._step, self._time = step, now
        numbers = _numbers(output)
        self._bar.set_postfix_str(f"loss {numbers['total_loss']:.4g}")
        if self._bar.disable:  # no terminal: the bar is not seen
            self.write(training_line(step, self._train_steps, numbers, rate))

    def evaluate(self, output) -> None:
        """Action after an evaluation."""
        self.write(evaluation_line(int(self._global_step.numpy()), _numbers(output)))
        self._time = time.monotonic()


def training_line(step: int, train_steps: int, output: dict[str, float], steps_per_second: float) -> str:
    """A line about a training loop.

    step 500/1500 | loss 4.52: centre 1.31, size 5.2, mask 2.41 | rate 0.00095 | 6.1 steps/s | 02:44 left
    """
    parts = ", ".join(f"{short} {output[name]:.4g}" for name, short in _LOSSES.items() if name in output)
    left = tqdm.format_interval((train_steps - step) / max(steps_per_second, 1e-9))
    return (
        f"step {step}/{train_steps} | loss {output['total_loss']:.4g}: {parts} | "
        f"rate {output['learning_rate']:.2g} | {steps_per_second:.3g} steps/s | {left} left"
    )


def evaluation_line(step: int, output: dict[str, float]) -> str:
    """A line about an evaluation: loss and AP, from detections and in ground-truth boxes."""
    parts = [f"loss {output['total_loss']:.4g}"] if "total_loss" in output else []
    for source, words in _SOURCES.items():
        figures = [
            f"{name.removesuffix('/AP')} {output[f'{source}/{name}']:.1f}"
            for name in _FIGURES
            if math.isfinite(output.get(f"{source}/{name}", math.nan))
        ]
        if figures:
            parts.append(f"AP {words}: {', '.join(figures)}")
    return f"evaluated step {step} | " + " | ".join(parts)


def _numbers(output) -> dict[str, float]:
    return {name: float(value) for name, value in output.items() if not name.startswith("image/")}
