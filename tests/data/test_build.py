"""Loaders follow their arguments and the config."""

import pickle

import numpy as np
import pytest
import torch
import torch.utils.data as torchdata

from d2lite.config import get_cfg
from d2lite.data import (
    DatasetCatalog,
    DatasetMapper,
    MetadataCatalog,
    build_batch_data_loader,
    build_detection_test_loader,
    build_detection_train_loader,
)
from d2lite.data.dataset_mapper import DATASET_MAPPER_REGISTRY
from d2lite.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from d2lite.utils import comm


@pytest.mark.parametrize("total, single", [(None, None), (4, 2), (0, None)])
def test_one_batch_size_is_given(total, single):
    with pytest.raises(ValueError, match="one of total_batch_size and single_gpu_batch_size"):
        build_batch_data_loader([1], TrainingSampler(1), total, single_gpu_batch_size=single)


def test_batch_size_of_one_worker(monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    sampler = TrainingSampler(9, seed=0)
    assert build_batch_data_loader([1] * 9, sampler, 6).batch_size == 3
    loader = build_batch_data_loader([1] * 9, sampler, None, single_gpu_batch_size=3)
    assert loader.state_dict()["total_batch_size"] == 6
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH .* is 5; .* multiple .* processes, 2"):
        build_batch_data_loader([1] * 9, sampler, 5)


def test_groups_drop_the_last_batch():
    with pytest.raises(ValueError, match="drop_last"):
        build_batch_data_loader(
            [1], TrainingSampler(1), 1, aspect_ratio_grouping=True, drop_last=False
        )


def test_sampler_must_be_one():
    with pytest.raises(TypeError, match="Sampler"):
        build_detection_train_loader([{}], mapper=None, sampler=[0], total_batch_size=1)


@pytest.fixture(scope="module")
def few_shapes():
    """The first twelve images of the embedded dataset, under a name of their own."""
    dicts = DatasetCatalog.get("shapes_val")[:12]
    DatasetCatalog.register("test_b_shapes", lambda: dicts)
    classes = MetadataCatalog.get("shapes_val").thing_classes
    MetadataCatalog.get("test_b_shapes").set(thing_classes=classes)
    yield dicts
    DatasetCatalog.remove("test_b_shapes")
    MetadataCatalog.remove("test_b_shapes")


@pytest.fixture
def cfg(few_shapes):
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("test_b_shapes",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN = (40,)
    cfg.INPUT.MIN_SIZE_TEST = 40
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SEED = 3
    return cfg


def test_train_loader_from_config(cfg):
    loader = build_detection_train_loader(cfg)
    batch = next(iter(loader))
    assert len(batch) == 2 and all(len(one["instances"]) > 0 for one in batch)
    assert min(batch[0]["image"].shape[1:]) == 40
    assert loader.state_dict()["seed"] == 3
    replaced = build_detection_train_loader(cfg, mapper=lambda one: one["image_id"])
    assert all(isinstance(one, int) for one in next(iter(replaced)))


def test_config_names_the_mapper_of_both_loaders(cfg, few_shapes):
    """A mapper of another name need not take masks from the annotations."""

    @DATASET_MAPPER_REGISTRY.register()
    def only_the_name(cfg, is_train):
        return lambda record: (record["file_name"], is_train)

    try:
        cfg.INPUT.DATASET_MAPPER = "only_the_name"
        assert all(is_train for _, is_train in next(iter(build_detection_train_loader(cfg))))
        tested = list(build_detection_test_loader(cfg, "test_b_shapes"))
    finally:
        DATASET_MAPPER_REGISTRY._obj_map.pop("only_the_name")
    assert tested == [[(record["file_name"], False)] for record in few_shapes]
    with pytest.raises(KeyError, match=r"INPUT\.DATASET_MAPPER: No object named 'only_the_name'"):
        build_detection_train_loader(cfg)


def test_masks_are_asked_for_by_the_default_mapper_only(cfg, register):
    image = {**DatasetCatalog.get("shapes_val")[0]}
    image["annotations"] = [
        {k: v for k, v in anno.items() if k != "segmentation"} for anno in image["annotations"]
    ]
    cfg.DATASETS.TRAIN = (register("test_b_without_masks", [image]),)
    cfg.MODEL.MASK_ON = True
    with pytest.raises(ValueError, match=r"MASK_ON is True, but .* have no 'segmentation'"):
        build_detection_train_loader(cfg)
    DATASET_MAPPER_REGISTRY._do_register("maskless", lambda cfg, is_train: lambda record: record)
    try:
        cfg.INPUT.DATASET_MAPPER = "maskless"
        build_detection_train_loader(cfg)
    finally:
        DATASET_MAPPER_REGISTRY._obj_map.pop("maskless")


def test_config_without_seed_draws_one(cfg):
    cfg.SEED = -1
    states = [build_detection_train_loader(cfg).state_dict() for _ in range(2)]
    assert states[0]["seed"] != states[1]["seed"]
    assert states[0]["sampler"] == {"seed": states[0]["seed"]}


@pytest.mark.parametrize(
    "name, kind",
    [
        ("TrainingSampler", TrainingSampler),
        ("RepeatFactorTrainingSampler", RepeatFactorTrainingSampler),
        ("RandomSubsetTrainingSampler", RandomSubsetTrainingSampler),
    ],
)
def test_sampler_of_the_config(cfg, name, kind):
    cfg.DATALOADER.SAMPLER_TRAIN = name
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.5
    assert type(build_detection_train_loader(cfg)._stream.sampler) is kind


def test_unknown_sampler_is_named(cfg):
    cfg.DATALOADER.SAMPLER_TRAIN = "TrainSampler"
    with pytest.raises(ValueError, match=r"DATALOADER.SAMPLER_TRAIN is 'TrainSampler'.*Training"):
        build_detection_train_loader(cfg)


@pytest.mark.parametrize("name", ["test_b_shapes", ["test_b_shapes"]])
def test_test_loader_from_config(cfg, few_shapes, name):
    loader = build_detection_test_loader(cfg, name)
    assert len(loader) == 12
    (first,) = next(iter(loader))
    assert first["image_id"] == few_shapes[0]["image_id"] and "instances" not in first
    assert min(first["image"].shape[1:]) == 40


@pytest.mark.parametrize("num_workers", [0, 2])
def test_test_loader_gives_everything_once(num_workers):
    dicts = [{"id": i} for i in range(7)]
    torch.manual_seed(0)
    state = torch.get_rng_state()
    loader = build_detection_test_loader(dicts, mapper=None, batch_size=3, num_workers=num_workers)
    batches = list(loader)
    assert [one["id"] for batch in batches for one in batch] == list(range(7))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert torch.equal(torch.get_rng_state(), state)


def test_test_loader_takes_iterables():
    class Iterable(torchdata.IterableDataset):
        def __iter__(self):
            return iter(range(3))

    loader = build_detection_test_loader(Iterable(), mapper=str, collate_fn=tuple)
    assert list(loader) == [("0",), ("1",), ("2",)]
    with pytest.raises(ValueError, match="own order"):
        build_detection_test_loader(Iterable(), mapper=None, sampler=TrainingSampler(3))


def test_test_loader_takes_the_proposals_of_its_data_set(cfg, register, tmp_path):
    register("test_b_1", [{"file_name": "a.jpg", "image_id": 1}])
    file = tmp_path / "p.pkl"
    content = {"ids": [1], "boxes": [np.zeros((2, 4))], "objectness_logits": [np.zeros(2)]}
    file.write_bytes(pickle.dumps(content))
    cfg.MODEL.LOAD_PROPOSALS = True
    cfg.DATASETS.TEST = ("test_b_shapes", "test_b_1")
    cfg.DATASETS.PROPOSAL_FILES_TEST = ("unused", str(file))
    loader = build_detection_test_loader(cfg, "test_b_1", mapper=lambda one: one)
    assert len(next(iter(loader))[0]["proposal_boxes"]) == 2
    assert DatasetMapper(cfg, False).proposal_topk == 1000
