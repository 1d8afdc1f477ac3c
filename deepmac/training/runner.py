"""Model Garden's experiment runner, for trainings that several processes share and kills interrupt."""

import math
import tempfile
from pathlib import Path

import tensorflow as tf
import tf_keras
from official.core import task_factory, train_lib, train_utils
from official.vision.utils.summary_manager import maybe_build_eval_summary_manager

import deepmac.training.mask_rcnn  # registers its task
import deepmac.training.task  # noqa: F401  # registers its task
from deepmac.core.errors import InputError
from deepmac.data.classes import write_classes
from deepmac.evaluation.files import write_evaluation
from deepmac.modeling.keras_fixes import compute_dtype
from deepmac.training import devices, monitor, resume
from deepmac.training.devices import is_chief
from deepmac.training.fit_to_data import fit_to_data
from deepmac.training.progress import TrainingLog


def train(params, mode: str, model_dir: str):
    """Runs an experiment with Model Garden's training library.

    A training that was killed at any moment resumes from the last whole checkpoint. With
    `task.train_data.deterministic`, it then gives what it would have given.

    Args:
        params: `ExperimentConfig`, complete; what it leaves to the data is set as `fit_to_data` says.
        mode: 'train', 'eval', 'train_and_eval', 'train_and_post_eval' or 'continuous_eval'.
        model_dir: where checkpoints, summaries and the configuration go; training resumes from the
            last checkpoint found there.

    Returns:
        (model, logs of the last evaluation; empty unless one ran).

    Raises:
        InputError: wrong configuration, missing or damaged files, no room for checkpoints, or a loss that
            is not a number.
    """
    monitor.check_files(params.task, mode)
    params = params.replace()
    params.runtime.mixed_precision_dtype = devices.precision(params.runtime)
    classes = fit_to_data(params.task)
    strategy = devices.build_strategy(params.runtime)
    devices.check_batch_sizes(params.task, strategy, mode)
    if params.task.train_data.deterministic:
        tf.config.experimental.enable_op_determinism()
    if params.task.seed is not None:
        tf_keras.utils.set_random_seed(params.task.seed)
    with monitor.explained(model_dir, params.task), compute_dtype(params.runtime.mixed_precision_dtype):
        if is_chief(strategy) and "train" in mode:
            resume.clean_model_dir(model_dir)
            train_utils.serialize_config(params, model_dir)
            if classes:
                write_classes(classes, model_dir)
        first_step = devices.from_chief(strategy, resume.last_step(model_dir))
        with strategy.scope():
            experiment_task = task_factory.get_task(params.task, logging_dir=model_dir)
        experiment_task.first_step = first_step
        return ExperimentRunner(strategy, experiment_task, mode, params, model_dir).run()


class ExperimentRunner(train_lib.OrbitExperimentRunner):
    """Runs an experiment; workers that keep no checkpoints of their own read those of the first.

    In Model Garden they look into an empty folder, and start from step 0 beside a chief that resumes.
    """

    def __init__(self, strategy, task, mode: str, params, model_dir: str):
        """Builds trainer and controller, with what is done after every training loop and evaluation."""
        writes = is_chief(strategy)
        super().__init__(
            strategy,
            task,
            mode,
            params,
            model_dir,
            save_summary=writes,
            eval_summary_manager=maybe_build_eval_summary_manager(params, model_dir) if writes else None,
        )
        self._log = TrainingLog(self.trainer.global_step, params.trainer.train_steps)
        self.controller.train_actions = (self._check_losses, *self.controller.train_actions)
        if writes:
            self.controller.train_actions += (self._log.train,)
            write = [lambda _: write_evaluation(task.evaluators, Path(model_dir)), self._log.evaluate]
            self.controller.eval_actions = (*write, *self.controller.eval_actions)

    def run(self):
        """Runs the experiment: (model, logs of the last evaluation), see `train`."""
        with self._log.in_place_of_orbits(), self.strategy.scope():
            self._resume_evaluations()
            return super().run()

    def _check_losses(self, logs):
        """Action after a training loop, before it is saved; in their means one bad step is enough."""
        if names := [name for name, value in logs.items() if not math.isfinite(value)]:
            step, good = self.trainer.global_step.numpy(), tf.train.latest_checkpoint(self.model_dir)
            raise InputError(
                f"training stopped: {', '.join(names)} not finite by step {step}. The last good checkpoint "
                f"is {good}; lower the learning rate, or set task.gradient_clip_norm, and run again"
            )

    def _resume_evaluations(self):
        """Goes to the step that an uninterrupted training evaluates next, or where that was cut short.

        So the same steps are evaluated, and the same one is the best.
        """
        trainer, step = self.params.trainer, int(self.trainer.global_step.numpy())
        if self._mode != "train_and_eval" or not step:
            return
        due = min(step + -step % trainer.validation_interval, trainer.train_steps)
        self.controller.train(due, checkpoint_at_completion=False)
        self.controller.evaluate(trainer.validation_steps)

    def _build_trainer(self, task, train, evaluate):
        trainer = super()._build_trainer(task, train, evaluate)
        if train:
            # The training loop is one graph: slots that Keras makes inside it, at the first update, are
            # initialised from placeholders that nobody feeds as soon as there are two replicas.
            with self.strategy.scope():
                trainer.optimizer._create_all_weights(trainer.model.trainable_variables)
        return trainer

    def _build_best_checkpoint_exporter(self):
        if not self.params.task.annotation_file:
            return None  # an evaluation has no AP then, by which the best one is chosen
        exporter = train_lib.maybe_create_best_ckpt_exporter(self.params, self.model_dir)
        if exporter and not is_chief(self.strategy):
            # All workers know the best so far, and take part in saving, to read variables; one writes.
            exporter._export_dir = tempfile.mkdtemp()
        return exporter

    def _maybe_build_checkpoint_manager(self):
        manager = super()._maybe_build_checkpoint_manager()
        if not is_chief(self.strategy):
            manager._init_fn = self._restore_shared  # called as its own folder holds no checkpoint
        return manager

    def _restore_shared(self):
        checkpoint = tf.train.latest_checkpoint(self.model_dir)
        if checkpoint:
            self.trainer.checkpoint.restore(checkpoint)
        else:
            self.trainer.initialize()
