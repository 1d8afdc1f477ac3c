import threading

import pytest

from deepmac.core import executors
from deepmac.core.executors import ahead, threads


def test_results_come_in_order_and_no_more_is_taken_than_allowed():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    with threads() as pool:
        for number, result in enumerate(ahead(pool, lambda x: x * x, items(), most=5)):
            assert result == number**2
            assert len(taken) <= number + 5


def test_what_has_not_begun_is_dropped(monkeypatch):
    monkeypatch.setattr(executors, "usable_cores", lambda: 1)
    begun, release = [], threading.Event()

    def work(number):
        begun.append(number)
        release.wait(5)
        return number

    with pytest.raises(RuntimeError), threads() as pool:
        results = ahead(pool, work, range(10), most=10)
        release.set()
        assert next(results) == 0
        release.clear()
        threading.Timer(0.1, release.set).start()
        raise RuntimeError
    assert len(begun) < 10
