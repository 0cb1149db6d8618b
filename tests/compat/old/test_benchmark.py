"""The benchmark times every part of a loader."""

import itertools
import time

import pytest

from d2lite.data.benchmark import DataLoaderBenchmark, iter_benchmark


def _slow(item=None):
    time.sleep(0.005)
    return item


def test_iterator_is_timed_after_the_warm_up():
    made = []
    numbers = (made.append(_slow(i)) for i in itertools.count())
    average, each = iter_benchmark(numbers, num_iter=4, warmup=2)
    assert len(made) == 6 and len(each) == 4
    assert 0.005 <= average < 1
    assert average == pytest.approx(sum(each) / 4)


def test_iterator_is_stopped_in_time():
    _, each = iter_benchmark(map(_slow, itertools.count()), 1000, 0, max_time_seconds=0.02)
    assert len(each) <= 5


def test_iterator_without_items_is_told():
    with pytest.raises(ValueError, match="warm-up of 5"):
        iter_benchmark(iter([1]), num_iter=3)


def test_all_parts_are_timed():
    benchmark = DataLoaderBenchmark(
        [{"id": i} for i in range(6)], mapper=_slow, total_batch_size=2, num_workers=1
    )
    assert benchmark.benchmark_dataset(4) < benchmark.benchmark_mapper(4)
    assert benchmark.benchmark_mapper(4) >= 0.005
    alone, one_worker = benchmark.benchmark_workers(3, warmup=1)
    assert alone >= 0.01 and one_worker > 0
    assert benchmark.benchmark_IPC(3, warmup=1) > 0
    assert benchmark.benchmark_distributed(3, warmup=1) > 0
