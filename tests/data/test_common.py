"""Datasets made of other datasets."""

import itertools
import pickle

import pytest
import torch.utils.data as torchdata

from d2lite.data import DatasetFromList, MapDataset, ToIterableDataset
from d2lite.data.common import (
    AspectRatioGroupedDataset,
    set_default_dataset_from_list_serialize_method,
)
from d2lite.data.samplers import TrainingSampler
from tests.golden import load_case


class _Iterable(torchdata.IterableDataset):
    def __iter__(self):
        return iter(range(5))


@pytest.mark.parametrize(
    "batch_size", load_case("samplers.aspect_ratio_grouping").params["batch_sizes"]
)
def test_golden_aspect_ratio_groups(batch_size):
    case = load_case("samplers.aspect_ratio_grouping")
    items = [
        {"width": w, "height": h, "id": i} for i, (w, h) in enumerate(case.inputs["sizes"].tolist())
    ]
    batches = AspectRatioGroupedDataset(items, batch_size)
    got = [[item["id"] for item in batch] for batch in batches]
    assert got == case.outputs[f"batches_{batch_size}"]


def test_batches_left_early_and_taken_up_again_stay_whole():
    items = [{"width": w, "height": 2} for w in (3, 1, 3, 1, 3)]
    batches = AspectRatioGroupedDataset(items, 2)
    for left in ([0, 1], [1, 0], [0, 0]):
        assert len(next(iter(batches))) == 2
        assert [len(bucket) for bucket in batches._buckets] == left


@pytest.mark.parametrize("serialize", [True, False, list])
def test_list_as_a_data_set(serialize):
    items = [{"a": [i]} for i in range(3)]
    dataset = DatasetFromList(items, serialize=serialize)
    assert len(dataset) == 3 and dataset[-1] == {"a": [2]}
    assert [item["a"][0] for item in dataset] == [0, 1, 2]
    with pytest.raises(IndexError):
        dataset[3]


@pytest.mark.parametrize("serialize, copy", [(True, True), (True, False), (False, True)])
def test_items_can_be_changed_without_changing_the_list(serialize, copy):
    dataset = DatasetFromList([{"a": [0]}], copy=copy, serialize=serialize)
    dataset[0]["a"].append(1)
    assert dataset[0] == {"a": [0]}


def test_uncopied_items_are_the_lists_own():
    items = [{"a": 1}]
    assert DatasetFromList(items, copy=False, serialize=False)[0] is items[0]


def test_empty_list():
    assert len(DatasetFromList([])) == 0


def test_default_serialization_can_be_replaced():
    made = []
    with set_default_dataset_from_list_serialize_method(lambda lst: made.append(1) or tuple(lst)):
        assert DatasetFromList([1, 2])[1] == 2
    assert made == [1]
    DatasetFromList([1, 2])
    assert made == [1]


def test_mapped_data_set_replaces_none_by_another_item():
    dataset = MapDataset([0, 1, 2, 3], lambda item: item * 10 if item == 2 else None)
    assert [dataset[i] for i in range(4)] == [20] * 4
    assert len(dataset) == 4
    with pytest.raises(RuntimeError, match="all 4 items"):
        MapDataset([0, 1, 2, 3], lambda item: None)[0]


def test_mapped_iterable_leaves_none_out():
    mapped = MapDataset(_Iterable(), lambda item: item if item % 2 else None)
    assert isinstance(mapped, torchdata.IterableDataset)
    assert list(mapped) == [1, 3]


def test_mapped_data_set_can_be_sent_to_a_process():
    dataset = pickle.loads(pickle.dumps(MapDataset(DatasetFromList([1, 2]), str)))
    assert dataset[1] == "2"


def test_to_iterable_follows_the_sampler():
    dataset = ToIterableDataset([10, 20, 30], TrainingSampler(3, shuffle=False))
    assert list(itertools.islice(dataset, 4)) == [10, 20, 30, 10]
    with pytest.raises(TypeError, match="Sampler"):
        ToIterableDataset([1], [0])
    with pytest.raises(TypeError, match="already iterable"):
        ToIterableDataset(_Iterable(), TrainingSampler(3))


def test_loader_workers_share_the_stream_in_chunks():
    dataset = ToIterableDataset(
        list(range(8)), torchdata.SequentialSampler(range(8)), shard_chunk_size=2
    )
    loader = torchdata.DataLoader(dataset, num_workers=2, batch_size=2)
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5], [6, 7]]
