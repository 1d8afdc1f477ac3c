"""Model Garden's experiment runner, for trainings that several processes share and kills interrupt."""

import tempfile
from pathlib import Path

import tensorflow as tf
from official.core import train_lib
from official.vision.utils.summary_manager import maybe_build_eval_summary_manager

from deepmac.evaluation.files import write_evaluation
from deepmac.training.devices import is_chief
from deepmac.training.progress import TrainingLog


class ExperimentRunner(train_lib.OrbitExperimentRunner):
    """Runs an experiment; workers that keep no checkpoints of their own read those of the first.

    In Model Garden they look into an empty folder, and start from step 0 beside a chief that resumes.
    """

    def __init__(self, strategy, task, mode: str, params, model_dir: str):
        """Builds trainer and controller, with what is done after every training loop and evaluation.

        Args:
            strategy: `tf.distribute.Strategy`.
            task: of DeepMAC or of Mask R-CNN.
            mode: see `deepmac.train.train`.
            params: `ExperimentConfig`.
            model_dir: where all goes; only one process writes.
        """
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
        before, after = [], []
        if "train" in mode and hasattr(task, "monitor"):  # of DeepMAC, not of Mask R-CNN
            before = [lambda _: task.monitor.check(tf.train.latest_checkpoint(model_dir))]
        if writes:
            after = [self._log.train]
            write = [lambda _: write_evaluation(task.evaluators, Path(model_dir)), self._log.evaluate]
            self.controller.eval_actions = (*write, *self.controller.eval_actions)
        self.controller.train_actions = (*before, *self.controller.train_actions, *after)

    def run(self):
        """Runs the experiment: (model, logs of the last evaluation), see `deepmac.train.train`."""
        with self._log.in_place_of_orbits():
            return super().run()

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
        # All workers must take part in saving, to read variables, but one of them writes the folder.
        folder = self.model_dir if is_chief(self.strategy) else tempfile.mkdtemp()
        return train_lib.maybe_create_best_ckpt_exporter(self.params, folder)

    def _maybe_build_checkpoint_manager(self):
        if is_chief(self.strategy):
            return super()._maybe_build_checkpoint_manager()
        return tf.train.CheckpointManager(
            self.trainer.checkpoint,
            directory=tempfile.mkdtemp(),  # all workers must take part in saving, to read variables
            max_to_keep=1,
            step_counter=self.trainer.global_step,
            checkpoint_interval=self.params.trainer.checkpoint_interval,
            init_fn=self._restore_shared,
        )

    def _restore_shared(self):
        checkpoint = tf.train.latest_checkpoint(self.model_dir)
        if checkpoint:
            self.trainer.checkpoint.restore(checkpoint)
        else:
            self.trainer.initialize()
