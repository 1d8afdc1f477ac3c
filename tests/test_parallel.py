"""Tasks over processes: order, errors, and processes that end with their parent."""

import os

import pytest

from deepmac.scenes.parallel import map_in_order


def _times_with_process(task, shared):
    return task * shared, os.getpid()


def _fails_at_seven(task, shared):
    if task == 7:
        raise ValueError("seven")


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_are_in_order(jobs):
    results = map_in_order(_times_with_process, range(100), 3, jobs=jobs, progress=False, unit="tasks")
    assert [value for value, _ in results] == [3 * task for task in range(100)]
    assert (os.getpid() in {process for _, process in results}) == (jobs == 1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_of_a_task_reaches_the_caller(jobs):
    with pytest.raises(ValueError, match="seven"):
        map_in_order(_fails_at_seven, range(40), None, jobs=jobs, progress=False, unit="tasks")


def test_few_tasks_start_no_process():
    results = map_in_order(_times_with_process, range(20), 1, jobs=None, progress=False, unit="tasks")
    assert {process for _, process in results} == {os.getpid()}
