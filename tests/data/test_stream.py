"""The stream of samples is a function of (seed, position) and of nothing else."""

import itertools
import random
import re

import numpy as np
import pytest
import torch
from PIL import Image

from d2lite.data import DatasetFromList, MapDataset
from d2lite.data.samplers import TrainingSampler
from d2lite.data.stream import AspectGroups, MappedSamples, SampleRef, TrainingStream, seeded_rng
from d2lite.utils import comm


def _draw() -> tuple:
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_seeded_numbers_depend_on_the_seeds_only():
    with seeded_rng(1, 2):
        first = _draw()
    _draw()
    with seeded_rng(1, 2):
        assert _draw() == first
    with seeded_rng(1, 3):
        assert not set(_draw()) & set(first)


def test_the_generators_go_on_as_if_nothing_had_happened():
    def numbers(disturb: bool) -> tuple:
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        np.random.randn()  # leaves half of a pair in numpy's state
        if disturb:
            with seeded_rng(5), pytest.raises(ZeroDivisionError), seeded_rng(6):
                _draw()
                raise ZeroDivisionError
        return *_draw(), np.random.randn()

    assert numbers(True) == numbers(False)


def test_batches_carry_positions_over_all_workers(monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "get_rank", lambda: 1)
    stream = TrainingStream(TrainingSampler(10, shuffle=False, seed=0), batch_size=2, seed=7)
    first, second = itertools.islice(stream, 2)
    assert first == [SampleRef(1, 1, 7, 0), SampleRef(3, 3, 7, 0)]
    assert second == [SampleRef(5, 5, 7, 1), SampleRef(7, 7, 7, 1)]
    stream.batches_done = 1
    assert next(iter(stream)) == second
    stream.batches_done = 5
    stream.end_pass()
    assert [(ref.position, ref.iteration) for ref in next(iter(stream))] == [(21, 5), (23, 5)]


def test_last_batch_is_kept_on_request():
    ordered = torch.utils.data.SequentialSampler(range(5))
    sizes = [len(batch) for batch in TrainingStream(ordered, 2, drop_last=False)]
    assert sizes == [2, 2, 1]
    assert [len(batch) for batch in TrainingStream(ordered, 2)] == [2, 2]


def test_torchs_samplers_follow_the_seed_too():
    sampler = torch.utils.data.RandomSampler(range(100))

    def order(seed, before=0):
        stream = TrainingStream(sampler, 10, seed=seed)
        stream.samples_before = before
        return [ref.index for batch in stream for ref in batch]

    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = order(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert order(1) == first
    assert order(2) != first and order(1, before=100) != first
    assert sorted(first) == list(range(100))


def test_groups_come_from_dicts_or_the_head_of_the_file(tmp_path):
    Image.new("RGB", (8, 4)).save(tmp_path / "wide.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    dicts = [
        {"width": 3, "height": 2},
        {"width": 2, "height": 2},
        {"file_name": str(tmp_path / "wide.png")},
        {"file_name": str(tmp_path / "turned.jpg")},
        {"file_name": str(tmp_path / "missing.jpg")},
    ]
    groups = AspectGroups(MapDataset(DatasetFromList(dicts), lambda item: 1 / 0))
    assert [groups(i) for i in range(5)] == [0, 1, 0, 1, 1]


def test_groups_of_other_data_sets_cost_one_reading_and_say_so(caplog):
    class Counting(torch.utils.data.Dataset):
        read = 0

        def __len__(self):
            return 2

        def __getitem__(self, index):
            self.read += 1
            return {"width": np.random.randint(1, 9) + 10, "height": 5}

    dataset = Counting()
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    groups = AspectGroups(dataset)
    assert [groups(0), groups(1), groups(0)] == [0, 0, 0]
    assert dataset.read == 2
    assert "loads every sample" in caplog.text
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def _bad(item: int) -> int:
    if item % 2:
        raise OSError(f"item {item} is broken")
    return item * 10


def test_bad_samples_are_errors_or_replaced():
    ref = SampleRef(3, 0, 0)
    dataset = MapDataset(DatasetFromList(list(range(10))), _bad)
    sample = MappedSamples(dataset)[ref]
    assert sample.value is None and str(sample.error) == "item 3 is broken"
    skipping = MappedSamples(dataset, on_bad_sample="skip")
    replaced = skipping[ref]
    assert replaced.value % 20 == 0 and replaced.error is None
    assert replaced.skipped[0] == ("item 3", "OSError: item 3 is broken")
    assert skipping[ref] == replaced  # the same replacement each time
    positions = {skipping[SampleRef(3, k, 0)].value for k in range(30)}
    assert len(positions) > 1  # but not the same one everywhere


def test_replacements_are_of_the_same_group():
    dataset = MapDataset(DatasetFromList(list(range(40))), lambda i: None if i == 3 else i)
    samples = MappedSamples(dataset, group_of=lambda index: index % 2)
    assert all(samples[SampleRef(3, k, 0)].value % 2 == 1 for k in range(30))
    assert samples[SampleRef(3, 0, 0)].skipped == []  # None is a decision, no bad image


def test_it_gives_up_when_nothing_can_be_made():
    nothing = MapDataset(DatasetFromList([1, 2]), lambda item: None)
    with pytest.raises(RuntimeError, match="the mapper returned None"):
        MappedSamples(nothing)[SampleRef(0, 0, 0)]
    broken = MapDataset(DatasetFromList([1, 3]), _bad)
    sample = MappedSamples(broken, on_bad_sample="skip")[SampleRef(0, 0, 0)]
    assert sample.value is None
    assert re.search(r"1000 samples in a row .* item [13] is broken", str(sample.error))


def test_programming_errors_are_not_skipped():
    dataset = MapDataset(DatasetFromList([0]), lambda item: 1 / item)
    with pytest.raises(ZeroDivisionError):
        MappedSamples(dataset, on_bad_sample="skip")[SampleRef(0, 0, 0)]


def test_policy_is_checked():
    with pytest.raises(ValueError, match=r"DATALOADER.ON_BAD_SAMPLE is 'ignore'"):
        MappedSamples([], on_bad_sample="ignore")
