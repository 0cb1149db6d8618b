"""Loaders: workers change nothing, a position is exact, bad images are one line."""

import itertools
import logging
import pickle
import random

import cv2
import numpy as np
import pytest
import torch
import torch.utils.data as torchdata
from PIL import Image

from d2lite.data import (
    ToIterableDataset,
    build_batch_data_loader,
    build_detection_test_loader,
    build_detection_train_loader,
)
from d2lite.data.detection_utils import ImageReadError, read_image
from d2lite.data.samplers import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from d2lite.utils import comm

DICTS = [{"id": i, "width": 3 if i % 3 else 1, "height": 2} for i in range(11)]


def _augment(item: dict) -> dict:
    """An "augmentation" that draws from every generator."""
    numbers = (random.random(), np.random.rand(), torch.rand(1).item())
    return {**item, "random": numbers}


def _loader(seed=0, size=2, mapper=_augment, dicts=DICTS, sampler=TrainingSampler, **options):
    chosen = sampler(len(dicts), seed=seed) if sampler is TrainingSampler else sampler
    return build_detection_train_loader(
        dicts, mapper=mapper, sampler=chosen, total_batch_size=size, **options
    )


def _take(loader, count) -> list:
    return list(itertools.islice(loader, count))


@pytest.mark.parametrize("grouping", [True, False])
def test_workers_change_nothing(grouping):
    alone = _take(_loader(aspect_ratio_grouping=grouping), 12)
    with_workers = _take(_loader(aspect_ratio_grouping=grouping, num_workers=2), 12)
    assert alone == with_workers
    numbers = [item["random"] for batch in alone for item in batch]
    assert len(set(numbers)) == len(numbers)  # also when an item comes again


def _loader_of_local_functions(**options):
    step, size = 10, 2
    return _loader(
        mapper=lambda item: item["id"] + step,
        sampler=InferenceSampler(4),
        aspect_ratio_grouping=False,
        collate_fn=lambda batch: [*batch, size],
        worker_init_fn=lambda worker: size,
        **options,
    )


def test_functions_of_any_kind_can_be_sent_to_workers():
    loader = _loader_of_local_functions()
    test_loader = build_detection_test_loader(
        [1, 2], mapper=lambda x: x + 1, collate_fn=lambda batch: batch[0]
    )
    assert list(loader) == [[10, 11, 2], [12, 13, 2]] and list(test_loader) == [2, 3]
    for one in (loader._loader, test_loader):  # what torch sends to a spawned worker
        sent = pickle.loads(pickle.dumps((one.dataset, one.collate_fn, one.worker_init_fn)))
        assert len(sent[0]) == len(one.dataset)


@pytest.mark.slow  # two processes import everything
def test_functions_of_any_kind_go_to_spawned_workers():
    loader = _loader_of_local_functions(num_workers=2, multiprocessing_context="spawn")
    assert list(loader) == [[10, 11, 2], [12, 13, 2]]


def test_length_is_that_of_the_sampler_in_batches():
    sampler = InferenceSampler(len(DICTS))
    loader = _loader(sampler=sampler, aspect_ratio_grouping=False, size=4)
    assert len(loader) == 2 == len(list(loader))
    batches = build_batch_data_loader(DICTS, sampler, 4, drop_last=False)
    assert len(batches) == 3 == len(list(batches))
    iterable = ToIterableDataset(DICTS, sampler)
    assert len(_loader(dicts=iterable, sampler=None, aspect_ratio_grouping=False, size=4)) == 2
    for endless in (_loader(aspect_ratio_grouping=False), _loader(sampler=sampler)):
        assert endless
        with pytest.raises(TypeError):
            len(endless)


def _threads(item: dict) -> tuple[int, int]:
    return cv2.getNumThreads(), torch.get_num_threads()


def test_workers_use_one_thread_each():
    loader = _loader(mapper=_threads, num_workers=1)
    assert _take(loader, 1) == [[(1, 1), (1, 1)]]


def test_batches_are_of_one_shape():
    for batch in _take(_loader(), 20):
        assert len({item["width"] > item["height"] for item in batch}) == 1


@pytest.mark.parametrize("grouping", [True, False])
@pytest.mark.parametrize("position", [1, 4, 7, 23])  # an epoch has five and a half batches
def test_resume_at_any_position(position, grouping):
    whole = _take(_loader(aspect_ratio_grouping=grouping), position + 6)
    stopped = _loader(aspect_ratio_grouping=grouping)
    _take(stopped, position)
    resumed = _loader(seed=99, aspect_ratio_grouping=grouping)  # another seed, which gives way
    resumed.load_state_dict(stopped.state_dict())
    assert _take(resumed, 6) == whole[position:]


def test_position_counts_what_was_delivered_not_what_was_prefetched():
    whole = _take(_loader(), 8)
    stopped = _loader(num_workers=2, prefetch_factor=4)
    _take(stopped, 3)
    assert stopped.state_dict()["batches"] == 3
    resumed = _loader(num_workers=2)
    resumed.load_state_dict(stopped.state_dict())
    assert _take(resumed, 5) == whole[3:]


@pytest.mark.parametrize("persistent", [True, False])
def test_iter_goes_on_from_the_position(persistent):
    whole = _take(_loader(), 9)
    loader = _loader(num_workers=1, persistent_workers=persistent)
    assert [_take(loader, 3), _take(loader, 3), _take(loader, 3)] == [
        whole[:3],
        whole[3:6],
        whole[6:],
    ]
    loader.load_state_dict({**loader.state_dict(), "batches": 2})
    assert _take(loader, 2) == whole[2:4]


def test_an_iterator_made_before_the_state_is_loaded_starts_at_the_position():
    whole = _take(_loader(), 5)
    stopped, resumed = _loader(), _loader()
    _take(stopped, 3)
    batches = iter(resumed)
    resumed.load_state_dict(stopped.state_dict())
    assert _take(batches, 2) == whole[3:]


def test_skipping_reads_nothing():
    made = []
    stopped = _loader()
    state = {**stopped.state_dict(), "batches": 1000}
    resumed = _loader(mapper=lambda item: made.append(item) or item)
    resumed.load_state_dict(state)
    _take(resumed, 1)
    assert len(made) == 2


@pytest.mark.parametrize("num_workers", [0, 2])
def test_random_state_of_this_process_moves_as_with_the_loader_of_torch(num_workers):
    loader = _loader(num_workers=num_workers)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    _take(loader, 4)
    drawn = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    next(iter(torchdata.DataLoader([0])))  # takes one number, of torch's generator
    assert drawn == (random.random(), np.random.rand(), torch.rand(1))


def test_a_loader_that_has_started_draws_nothing_in_a_step():
    """Where a run starts its loader differs between one that was resumed and one that was not."""
    batches = iter(_loader())
    torch.manual_seed(1)
    next(batches)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert drawn == torch.rand(1)


def test_two_ranks_share_the_stream_of_one(monkeypatch):
    alone = _take(_loader(size=4, aspect_ratio_grouping=False), 6)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        loader = _loader(size=4, aspect_ratio_grouping=False)
        assert loader.batch_size == 2
        shares.append(_take(loader, 6))
    for whole, first, second in zip(alone, *shares, strict=True):
        assert whole == [first[0], second[0], first[1], second[1]]


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomSubsetTrainingSampler(11, 0.6),
        lambda: RepeatFactorTrainingSampler(torch.full((11,), 1.5)),
        lambda: TrainingSampler(11),
        lambda: torchdata.RandomSampler(DICTS, replacement=True, num_samples=10**6),
    ],
)
def test_a_seed_drawn_at_random_is_resumed_too(make):
    def loader():
        return build_batch_data_loader(torchdata.ConcatDataset([DICTS]), make(), 2)

    stopped = loader()
    _take(stopped, 3)
    state = stopped.state_dict()
    rest = _take(stopped, 4)
    resumed = loader()
    resumed.load_state_dict(state)
    assert _take(resumed, 4) == rest


def test_a_finite_sampler_begins_again_with_new_augmentation():
    loader = _loader(sampler=InferenceSampler(11), aspect_ratio_grouping=False)
    first, second = list(loader), list(loader)
    assert [[item["id"] for item in batch] for batch in first] == [
        [0, 1], [2, 3], [4, 5], [6, 7], [8, 9],
    ]  # fmt: skip
    assert [item["id"] for item in second[0]] == [0, 1]
    assert first[0][0]["random"] != second[0][0]["random"]


def test_change_of_batch_size_goes_on_by_samples(caplog):
    stopped = _loader(size=2, aspect_ratio_grouping=False)
    _take(stopped, 6)
    resumed = _loader(size=4, aspect_ratio_grouping=False)
    resumed.load_state_dict(stopped.state_dict())
    assert "total batch size (2, now 4)" in caplog.text
    expected = _take(_loader(size=4, aspect_ratio_grouping=False), 5)[3:]
    assert _take(resumed, 2) == expected


def test_change_of_the_data_set_is_told(caplog):
    stopped, resumed = _loader(), _loader(dicts=DICTS[:9])
    resumed.load_state_dict(stopped.state_dict())
    assert "dataset size (11, now 9)" in caplog.text


@pytest.fixture
def photos(tmp_path) -> list[dict]:
    """Ten images, of which number 4 is cut off."""
    for i in range(10):
        Image.new("RGB", (20, 10), (i, i, i)).save(tmp_path / f"{i}.png")
    content = (tmp_path / "4.png").read_bytes()
    (tmp_path / "4.png").write_bytes(content[: len(content) // 2])
    return [
        {"file_name": str(tmp_path / f"{i}.png"), "width": 20, "height": 10, "id": i}
        for i in range(10)
    ]


def _read(item: dict) -> dict:
    value = int(read_image(item["file_name"], "RGB")[0, 0, 0])
    return {**item, "value": value, "random": np.random.rand()}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_image_stops_with_its_path(photos, num_workers):
    loader = _loader(dicts=photos, mapper=_read, num_workers=num_workers)
    with pytest.raises(ImageReadError, match=r"^[^\n]*4.png: [^\n]*$"):
        _take(loader, 10)


def _mapper_with_own_error(item: dict):
    class LocalError(ValueError):
        def __init__(self, one, two):
            super().__init__(one, two)

    raise LocalError("no", "good")


def test_errors_that_cannot_travel_keep_their_words():
    loader = _loader(mapper=_mapper_with_own_error, num_workers=1)
    with pytest.raises(ValueError, match=r"LocalError.*no.*good") as caught:
        _take(loader, 1)
    assert "_mapper_with_own_error" in str(caught.value.__cause__)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_images_are_skipped_counted_and_logged_once(photos, num_workers, caplog):
    def run():
        loader = _loader(dicts=photos, mapper=_read, num_workers=num_workers, on_bad_sample="skip")
        return loader, _take(loader, 30)

    caplog.set_level(logging.WARNING)
    loader, batches = run()
    values = [item["value"] for batch in batches for item in batch]
    assert len(values) == 60 and 4 not in values
    assert loader.num_skipped in (5, 6, 7) and loader.state_dict()["num_skipped"] > 1
    assert [file[-5:] for file in loader.skipped_files] == ["4.png"]
    assert caplog.text.count("4.png") == 1
    assert run()[1] == batches


def test_skipping_is_the_same_after_a_resume(photos):
    options = {"dicts": photos, "mapper": _read, "on_bad_sample": "skip"}
    whole = _take(_loader(**options), 12)
    stopped = _loader(**options)
    _take(stopped, 7)
    resumed = _loader(**options)
    resumed.load_state_dict(stopped.state_dict())
    assert resumed.num_skipped == stopped.num_skipped
    assert _take(resumed, 5) == whole[7:]


def _every_other(item: dict) -> dict | None:
    return item if item["id"] % 2 else None


def test_none_from_the_mapper_is_replaced_alike_everywhere():
    alone = _take(_loader(mapper=_every_other), 8)
    assert alone == _take(_loader(mapper=_every_other, num_workers=2), 8)
    assert all(item["id"] % 2 for batch in alone for item in batch)


class _Numbers(torchdata.IterableDataset):
    def __iter__(self):
        return iter(DICTS)


@pytest.mark.parametrize("grouping", [True, False])
def test_iterable_data_sets_have_a_position_too(grouping, caplog):
    def loader():
        return build_detection_train_loader(
            _Numbers(), mapper=dict, total_batch_size=2, aspect_ratio_grouping=grouping
        )

    whole = list(loader())
    assert all(len(batch) == 2 for batch in whole) and len(whole) >= 4
    stopped = loader()
    _take(stopped, 2)
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    assert list(resumed) == whole[2:]
    assert "2 batches are loaded and dropped" in caplog.text
    assert list(resumed) == whole


def test_iterable_data_sets_with_collate_and_last_batch():
    loader = build_batch_data_loader(_Numbers(), None, 4, collate_fn=len, drop_last=False)
    assert list(loader) == [4, 4, 3]
    with pytest.raises(ValueError, match="own order"):
        build_batch_data_loader(_Numbers(), TrainingSampler(3), 4)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"bbox": [1, 2, 3, 5]}, True),
        ({"category_id": 2}, True),
        ({"segmentation": [[0, 0, 4, 0, 4, 5]]}, True),
        ({"file_name": "moved/a.png"}, False),
        ({}, False),
    ],
)
def test_changed_annotations_are_noticed_when_a_run_is_resumed(changes, told, caplog):
    def loader(file_name="a.png", **changes):
        annotation = {"category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [[0, 0, 4, 0, 4, 4]]}
        record = {"file_name": file_name, "annotations": [{**annotation, **changes}]}
        return _loader(dicts=[record, *DICTS])

    loader(**changes).load_state_dict(loader().state_dict())
    assert ("training data have changed since" in caplog.text) == told


def read(item: dict) -> int:
    if item["id"] in (1, 2, 5):
        raise ImageReadError(f"{item['file_name']}: the image does not decode")
    return item["id"]


@pytest.mark.parametrize("workers", [0, 2])
def test_test_images_that_cannot_be_read_are_left_out_and_counted(workers, caplog):
    dicts = [{"id": i, "file_name": f"{i}.png"} for i in range(7)]
    options = {"mapper": read, "batch_size": 2, "num_workers": workers}
    loader = build_detection_test_loader(dicts, on_bad_sample="skip", **options)
    for _ in range(2):
        assert list(loader) == [[0], [3], [4], [6]]
    assert list(loader.skipped_files) == ["1.png", "2.png", "5.png"]
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert told[0].startswith("Skipped an image that could not be read: ImageReadError: 1.png: the")
    assert len(told) == 3 + 2  # one for each file, and the number after each pass
    assert told[-1].startswith("3 images of the test set were skipped")
    with pytest.raises(ImageReadError, match=r"1\.png: the image does not decode"):
        list(build_detection_test_loader(dicts, **options))


def test_batches_without_any_readable_image_do_not_come(caplog):
    dicts = [{"id": i, "file_name": f"{i}.png"} for i in (1, 2, 3)]
    options = {"mapper": read, "batch_size": 2, "on_bad_sample": "skip"}
    assert list(build_detection_test_loader(dicts, **options)) == [[3]]
