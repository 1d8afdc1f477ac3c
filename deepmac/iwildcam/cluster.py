"""Makes masks on the workers of a Dask cluster, some hundred pictures at a time.

Workers need this package, and the folders under the same paths. A part that dies with its worker is begun
again elsewhere and finds what was written.
"""

import dataclasses
import functools
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import as_completed
from pathlib import Path

from deepmac.iwildcam.jobs import Plan, Shard
from deepmac.iwildcam.mask_task import MaskTask
from deepmac.iwildcam.segmentation import Failure, segment_pictures

_PART = 128  # pictures that a worker gets at once
_loading = threading.Lock()  # a worker's threads share what is loaded


def segment_on_cluster(task: MaskTask, todo: list[int], scheduler: str) -> Iterator[Failure | None]:
    """Makes masks on a cluster.

    Args:
        task: the masks.
        todo: numbers of the pictures that have none, as in `Plan.indices`.
        scheduler: address of the Dask scheduler, as tcp://host:8786.

    Yields:
        For each picture, in whatever order, None once its mask is written, or why there is none.

    Raises:
        InputError: no Dask, no scheduler there, or masks that cannot be written.
    """
    from deepmac.core.executors import open_executor  # imports much

    task = _with_absolute_paths(task)
    parts = [todo[start : start + _PART] for start in range(0, len(todo), _PART)]
    with open_executor(jobs=1, scheduler=scheduler) as executor:
        futures = [executor.submit(segment_part, task, part) for part in parts]
        try:
            for future in as_completed(futures):
                yield from future.result()
        finally:
            for future in futures:
                future.cancel()


def _with_absolute_paths(task: MaskTask) -> MaskTask:
    """Workers run in folders of their own."""
    model = str(Path(task.model).absolute()) if Path(task.model).exists() else task.model
    paths = {name: getattr(task, name).absolute() for name in ("images", "detections", "out")}
    return dataclasses.replace(task, model=model, **paths)


def segment_part(task: MaskTask, indices: list[int]) -> list[Failure | None]:
    """Makes the masks of some pictures of a task that are not there, in this process."""
    with _loading:
        plan, network = _plan(task), _network(task)
    jobs = (plan.job(index) for index in indices)
    missing, done = [], 0
    for job in jobs:
        if plan.is_done(job, task.overwrite):
            done += 1
        else:
            missing.append(job)
    results = segment_pictures(missing, task.images, network, task.sixteen_bit)
    return list(itertools.chain(itertools.repeat(None, done), results))


@functools.lru_cache(maxsize=1)
def _plan(task: MaskTask) -> Plan:
    return task.plan(Shard(0, 1))


@functools.lru_cache(maxsize=1)
def _network(task: MaskTask):
    return task.load_network()
