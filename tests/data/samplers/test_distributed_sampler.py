"""Samplers against detectron2's index streams."""

import itertools

import numpy as np
import pytest
import torch

from d2lite.data.samplers import (
    GroupedBatchSampler,
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from tests.golden import load_case

CASE = load_case("samplers.all")


def _first(sampler, count=50) -> list[int]:
    return list(itertools.islice(sampler, count))


@pytest.mark.parametrize("size, seed, shuffle", CASE.params["training"])
def test_golden_training_stream(size, seed, shuffle):
    CASE.check(f"training_{size}_{seed}_{shuffle}", _first(TrainingSampler(size, shuffle, seed)))


@pytest.mark.parametrize("size, ratio, seed", CASE.params["subset"])
def test_golden_subset_stream(size, ratio, seed):
    sampler = RandomSubsetTrainingSampler(size, ratio, seed_shuffle=seed, seed_subset=seed + 1)
    CASE.check(f"subset_{size}_{ratio}_{seed}", _first(sampler))


@pytest.mark.parametrize("shuffle", [True, False])
def test_golden_repeated_stream(shuffle):
    factors = torch.tensor(CASE.params["repeat_factors"])
    sampler = RepeatFactorTrainingSampler(factors, shuffle=shuffle, seed=CASE.params["repeat_seed"])
    CASE.check(f"repeat_indices_{shuffle}", _first(sampler))


@pytest.mark.parametrize("threshold", CASE.params["repeat_thresholds"])
@pytest.mark.parametrize("sqrt", [True, False])
def test_golden_repeat_factors(threshold, sqrt):
    dicts = [
        {"annotations": [{"category_id": category} for category in categories]}
        for categories in CASE.params["repeat_categories"]
    ]
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    CASE.check(f"repeat_factors_{threshold}_{sqrt}", factors(dicts, threshold, sqrt))


@pytest.mark.parametrize("size, workers", CASE.params["inference"])
def test_golden_inference_shares(size, workers):
    shares = [
        list(InferenceSampler._get_local_indices(size, workers, rank)) for rank in range(workers)
    ]
    assert shares == CASE.outputs[f"inference_{size}_{workers}"]


def test_golden_inference_alone():
    sampler = InferenceSampler(len(CASE.outputs["inference_single"]))
    CASE.check("inference_single", list(sampler))
    assert len(sampler) == 7


def test_golden_grouped_batches():
    groups = CASE.params["group_ids"]
    ordered = torch.utils.data.SequentialSampler(groups)
    batches = list(iter(GroupedBatchSampler(ordered, groups, 3)))
    assert batches == CASE.outputs["grouped_batches"]


def test_grouped_batches_have_no_length_and_need_a_sampler():
    with pytest.raises(NotImplementedError):
        len(GroupedBatchSampler(InferenceSampler(3), [0, 0, 0], 2))
    with pytest.raises(ValueError, match="Sampler"):
        GroupedBatchSampler([0, 1], [0, 0], 2)


def test_workers_share_one_stream(monkeypatch):
    alone = _first(TrainingSampler(7, seed=3), 40)
    monkeypatch.setattr("d2lite.utils.comm.get_world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr("d2lite.utils.comm.get_rank", lambda rank=rank: rank)
        shares.append(_first(TrainingSampler(7, seed=3), 20))
    assert list(itertools.chain(*zip(*shares, strict=True))) == alone


@pytest.mark.parametrize(
    "make",
    [
        lambda: TrainingSampler(9),
        lambda: RandomSubsetTrainingSampler(9, 0.5),
        lambda: RepeatFactorTrainingSampler(torch.full((9,), 1.5)),
    ],
)
def test_stream_is_a_function_of_its_seeds(make):
    np.random.seed(0)
    first, second = make(), make()
    wanted = _first(first)
    assert _first(second) != wanted
    second.use_seeds(first.seeds())
    assert _first(second) == wanted


@pytest.mark.parametrize("size", [0, -1])
def test_empty_data_sets_are_refused(size):
    with pytest.raises(ValueError, match="empty"):
        TrainingSampler(size)
    with pytest.raises(ValueError, match="empty"):
        InferenceSampler(size)


@pytest.mark.parametrize("ratio", [0.0, 1.5, 0.01])
def test_subset_needs_a_usable_share(ratio):
    with pytest.raises(ValueError):
        RandomSubsetTrainingSampler(10, ratio)


def test_repeat_factor_one_is_every_item_once():
    sampler = RepeatFactorTrainingSampler(torch.ones(5), seed=1)
    assert sorted(_first(sampler, 5)) == [0, 1, 2, 3, 4]
