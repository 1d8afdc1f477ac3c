"""Model Garden's experiment runner, for trainings that several processes share and kills interrupt."""

import tempfile

import tensorflow as tf
from official.core import train_lib

from deepmac.training.devices import is_chief


class ExperimentRunner(train_lib.OrbitExperimentRunner):
    """Runs an experiment; workers that keep no checkpoints of their own read those of the first.

    In Model Garden they look into an empty folder, and start from step 0 beside a chief that resumes.
    """

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
