"""Loaders for training and testing, from arguments or from a config."""

import inspect
import logging
import operator
import signal
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import cv2
import torch
import torch.utils.data as torchdata
from torch.utils.data.sampler import Sampler

from d2lite.config import configurable
from d2lite.data.albumentations import KEY as ALBUMENTATIONS
from d2lite.data.common import AspectRatioGroupedDataset, DatasetFromList, MapDataset
from d2lite.data.dataset_dicts import (
    filter_images_with_few_keypoints as filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations as filter_images_with_only_crowd_annotations,
    get_detection_dataset_dicts,
    load_proposals_into_dataset as load_proposals_into_dataset,
    print_instances_class_histogram as print_instances_class_histogram,
)
from d2lite.data.dataset_mapper import DatasetMapper, build_dataset_mapper
from d2lite.data.ground_truth import NormalizedDicts, normalize_dicts
from d2lite.data.loader import (
    InferenceLoader,
    IterableTrainingLoader,
    TolerantLoader,
    TrainingLoader,
)
from d2lite.data.mapper_checks import check_for_mapper
from d2lite.data.missing_files import check_files_exist
from d2lite.data.mixing import mixing_keys
from d2lite.data.samplers import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from d2lite.data.stream import AspectGroups, TrainingStream, consecutive_batches, num_batches
from d2lite.utils import comm
from d2lite.utils.env import seed_all_rng
from d2lite.utils.errors import ArgumentError
from d2lite.utils.registry import lookup
from d2lite.utils.serialize import PicklableWrapper
from d2lite.utils.stop_signals import release_signals

logger = logging.getLogger(__name__)


def build_batch_data_loader(
    dataset: torchdata.Dataset,
    sampler: Sampler | None,
    total_batch_size: int | None,
    *,
    aspect_ratio_grouping: bool = False,
    num_workers: int = 0,
    collate_fn: Callable[[list], Any] | None = None,
    drop_last: bool = True,
    single_gpu_batch_size: int | None = None,
    prefetch_factor: int = 2,
    persistent_workers: bool = False,
    pin_memory: bool = False,
    seed: int | None = None,
    on_bad_sample: str = "raise",
    **kwargs: Any,
) -> TrainingLoader | IterableTrainingLoader:
    """Return a loader of batches for training.

    Args:
        dataset: indexable or iterable.
        sampler: indices of this rank; None for an iterable dataset.
        total_batch_size: of all ranks together; must be a multiple of their number.
        aspect_ratio_grouping: whether the images of a batch are either all wider than high, or all
            not. Needs `drop_last`, and dicts with "width" and "height", or at least "file_name".
        num_workers: number of loader processes; 0 loads in this process.
        collate_fn: makes a batch from a list of samples; by default the list is the batch.
        drop_last: drop the last batch if it is not full.
        single_gpu_batch_size: of this rank, instead of `total_batch_size`.
        prefetch_factor: number of batches that each process loads in advance.
        persistent_workers: keep the processes for the next `iter`.
        pin_memory: return tensors in pinned memory, for faster copies to a GPU.
        seed: of the augmentation; None uses the sampler's seed, or draws one.
        on_bad_sample: "raise", or "skip" to replace unreadable images by other samples.
        kwargs: further arguments of torch's DataLoader.
    Raises:
        ValueError: not exactly one batch size is given, or it is not divisible.
    """
    batch_size = _batch_size_per_worker(total_batch_size, single_gpu_batch_size)
    if aspect_ratio_grouping and not drop_last:
        raise ValueError("aspect_ratio_grouping drops batches that are not full: set drop_last")
    options = {
        "num_workers": num_workers,
        "pin_memory": pin_memory,
        "worker_init_fn": worker_init_reset_seed,
        **kwargs,
    }
    options["worker_init_fn"] = PicklableWrapper(options["worker_init_fn"])
    if num_workers > 0:
        options.update(prefetch_factor=prefetch_factor, persistent_workers=persistent_workers)
    if isinstance(dataset, torchdata.IterableDataset):
        if sampler is not None:
            raise ArgumentError("an iterable dataset has its own order: the sampler must be None")
        return _iterable_loader(
            dataset, batch_size, aspect_ratio_grouping, drop_last, collate_fn, options
        )
    group_of = AspectGroups(dataset) if aspect_ratio_grouping else None
    if seed is None:
        seed = sampler.seeds()["seed"] if hasattr(sampler, "seeds") else comm.shared_random_seed()
    return TrainingLoader(
        dataset,
        TrainingStream(sampler, batch_size, group_of, drop_last, seed=int(seed)),
        total_batch_size=batch_size * comm.get_world_size(),
        collate_fn=collate_fn or trivial_batch_collator,
        on_bad_sample=on_bad_sample,
        **options,
    )


def _batch_size_per_worker(total: int | None, single: int | None) -> int:
    if (not total) == (not single):
        raise ValueError(
            "give one of total_batch_size and single_gpu_batch_size, above 0; got "
            f"{total} and {single}"
        )
    if single:
        return single
    workers = comm.get_world_size()
    if total < 0 or total % workers != 0:
        raise ArgumentError(
            f"SOLVER.IMS_PER_BATCH (the total batch size) is {total}; it must be a positive "
            f"multiple of the number of processes, {workers} (--num-gpus)"
        )
    return total // workers


def _iterable_loader(
    dataset: torchdata.IterableDataset,
    batch_size: int,
    aspect_ratio_grouping: bool,
    drop_last: bool,
    collate_fn: Callable[[list], Any] | None,
    options: dict[str, Any],
) -> IterableTrainingLoader:
    samples = torchdata.DataLoader(
        dataset, batch_size=1, collate_fn=operator.itemgetter(0), **options
    )

    def make_batches(items: torchdata.DataLoader) -> Iterator:
        if aspect_ratio_grouping:
            batches = iter(AspectRatioGroupedDataset(items, batch_size))
        else:
            batches = consecutive_batches(iter(items), batch_size, drop_last)
        return map(collate_fn, batches) if collate_fn is not None else batches

    def count_batches(num_samples: int) -> int:
        return num_batches(num_samples, batch_size, drop_last)

    return IterableTrainingLoader(
        samples, make_batches, None if aspect_ratio_grouping else count_batches
    )


def _train_loader_from_config(
    cfg: Any,
    mapper: Callable | None = None,
    *,
    dataset: Any = None,
    sampler: Sampler | None = None,
) -> dict[str, Any]:
    if dataset is None:
        dataset = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=(
                cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0
            ),
            proposal_files=(
                cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None
            ),
        )
        # A custom mapper may use "file_name" for something else.
        if mapper is None and isinstance(dataset, list):
            tolerant = cfg.DATALOADER.ON_BAD_SAMPLE == "skip"
            check_files_exist(dataset, cfg.DATASETS.TRAIN, tolerant=tolerant)
    if mapper is None:
        mapper = build_dataset_mapper(cfg, True)
    _check_follows(cfg, mapper, dataset)
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    if sampler is None and not isinstance(dataset, torchdata.IterableDataset):
        name = cfg.DATALOADER.SAMPLER_TRAIN
        make_sampler = lookup("DATALOADER.SAMPLER_TRAIN", name, _SAMPLERS)
        logger.info("Using training sampler %s", name)
        sampler = make_sampler(cfg, dataset, seed)
    return {
        "dataset": dataset,
        "sampler": sampler,
        "mapper": mapper,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "pin_memory": torch.cuda.is_available() and cfg.MODEL.DEVICE.startswith("cuda"),
        "seed": seed,
        "on_bad_sample": cfg.DATALOADER.ON_BAD_SAMPLE,
    }


def _check_follows(cfg: Any, mapper: Callable, dataset: Any) -> None:
    """Raise a ValueError where settings ask for what the mapper or the dataset does not do."""
    mixing = mixing_keys(cfg)
    albumentations = [ALBUMENTATIONS] if cfg.INPUT.get("ALBUMENTATIONS") else []
    asked = {"mixing": mixing, "albumentations": albumentations}
    name = getattr(mapper, "__name__", type(mapper).__name__)
    for attribute, keys in asked.items():
        if keys and getattr(mapper, attribute, None) is None:
            raise ValueError(
                f"{keys[0]} is on, but the mapper {name} does not follow it: use DatasetMapper as "
                "the config builds it, or a subclass, or turn the key off"
            )
    if not mixing:
        return
    if "others" not in inspect.signature(mapper).parameters:
        raise ValueError(
            f"{mixing[0]} is on, but {name}.__call__ does not take `others`, which "
            "DatasetMapper.__call__ mixes images from: take them and pass them on, or turn the key "
            "off"
        )
    if isinstance(dataset, torchdata.IterableDataset):
        raise ValueError(
            f"{mixing[0]} is on, but the dataset is iterable only: its images cannot be mixed with "
            "others; turn the key off"
        )


def _repeat_factor_sampler(cfg: Any, dataset: Sequence, seed: int) -> Sampler:
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        dataset, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
    )
    return RepeatFactorTrainingSampler(factors, seed=seed)


def _subset_sampler(cfg: Any, dataset: Sequence, seed: int) -> Sampler:
    ratio = cfg.DATALOADER.RANDOM_SUBSET_RATIO
    return RandomSubsetTrainingSampler(len(dataset), ratio, seed_shuffle=seed, seed_subset=seed)


_SAMPLERS: dict[str, Callable[[Any, Sequence, int], Sampler]] = {
    "TrainingSampler": lambda cfg, dataset, seed: TrainingSampler(len(dataset), seed=seed),
    "RepeatFactorTrainingSampler": _repeat_factor_sampler,
    "RandomSubsetTrainingSampler": _subset_sampler,
}


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset: list | torchdata.Dataset,
    *,
    mapper: Callable | None,
    sampler: Sampler | None = None,
    total_batch_size: int,
    aspect_ratio_grouping: bool = True,
    num_workers: int = 0,
    collate_fn: Callable[[list], Any] | None = None,
    **kwargs: Any,
) -> TrainingLoader | IterableTrainingLoader:
    """Return a training loader, built from these arguments or from a config.

    With a config, call `build_detection_train_loader(cfg)`; `mapper`, `dataset` and `sampler` then
    override the config.

    Args:
        dataset: list of dicts, or a torch dataset, indexable or iterable.
        mapper: converts an item of the dataset to the model's input; None keeps the items.
        sampler: indices of this rank; by default TrainingSampler.
        total_batch_size: of all ranks together.
        aspect_ratio_grouping, num_workers, collate_fn, kwargs: see `build_batch_data_loader`.
    Returns:
        A TrainingLoader: endless with the training samplers, and with a position that can be saved.
    """
    if isinstance(dataset, list):
        skips = kwargs.get("on_bad_sample") == "skip"
        dataset = DatasetFromList(_checked(dataset, mapper, skips), copy=False)
    if mapper is not None:
        dataset = MapDataset(dataset, mapper)
    if isinstance(dataset, torchdata.IterableDataset):
        if sampler is not None:
            raise ArgumentError("an iterable dataset has its own order: the sampler must be None")
    else:
        sampler = TrainingSampler(len(dataset)) if sampler is None else sampler
        if not isinstance(sampler, Sampler):
            raise ArgumentError(f"expected a torch Sampler, not {type(sampler).__name__}")
    return build_batch_data_loader(
        dataset,
        sampler,
        total_batch_size,
        aspect_ratio_grouping=aspect_ratio_grouping,
        num_workers=num_workers,
        collate_fn=collate_fn,
        **kwargs,
    )


def _checked(dataset: list, mapper: Callable | None, tolerant: bool = False) -> list:
    """Check the dicts as far as possible before the first sample is loaded, and return them.

    Only for our own mapper: others may read dicts of another form, or skip some of them.
    """
    if type(mapper) is not DatasetMapper:
        return dataset
    if not isinstance(dataset, NormalizedDicts):
        dataset = NormalizedDicts(normalize_dicts(dataset, "dataset"), ["the dataset"])
    check_for_mapper(dataset, mapper, tolerant=tolerant)
    return dataset


def _test_loader_from_config(
    cfg: Any, dataset_name: str | Sequence[str], mapper: Callable | None = None
) -> dict[str, Any]:
    names = [dataset_name] if isinstance(dataset_name, str) else list(dataset_name)
    proposal_files = None
    if cfg.MODEL.LOAD_PROPOSALS:
        files, tests = cfg.DATASETS.PROPOSAL_FILES_TEST, cfg.DATASETS.TEST
        if len(files) != len(tests):
            raise ValueError(
                "MODEL.LOAD_PROPOSALS is True, but DATASETS.PROPOSAL_FILES_TEST names "
                f"{len(files)} files for {len(tests)} test sets; name one for each"
            )
        positions = [list(tests).index(name) for name in names]
        proposal_files = [files[position] for position in positions]
    dataset = get_detection_dataset_dicts(names, filter_empty=False, proposal_files=proposal_files)
    if mapper is None and isinstance(dataset, list):
        check_files_exist(dataset, names, tolerant=cfg.DATALOADER.ON_BAD_SAMPLE == "skip")
    is_iterable = isinstance(dataset, torchdata.IterableDataset)
    return {
        "dataset": dataset,
        "mapper": build_dataset_mapper(cfg, False) if mapper is None else mapper,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "sampler": None if is_iterable else InferenceSampler(len(dataset)),
        "on_bad_sample": cfg.DATALOADER.ON_BAD_SAMPLE,
    }


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset: list | torchdata.Dataset,
    *,
    mapper: Callable | None,
    sampler: Sampler | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    collate_fn: Callable[[list], Any] | None = None,
    on_bad_sample: str = "raise",
) -> torchdata.DataLoader:
    """Return a loader for inference, built from these arguments or from a config and dataset name.

    Args:
        dataset: list of dicts, or a torch dataset, indexable or iterable.
        mapper: converts an item of the dataset to the model's input; None keeps the items.
        sampler: by default InferenceSampler, which splits the items among the ranks.
        batch_size: of this rank.
        num_workers: number of loader processes.
        collate_fn: makes a batch from a list of samples; by default the list is the batch.
        on_bad_sample: "raise", or "skip" to drop unreadable images with a warning.
    Returns:
        A DataLoader that yields every item once, over all ranks.
    """
    if isinstance(dataset, list):
        dataset = DatasetFromList(_checked(dataset, mapper, on_bad_sample == "skip"), copy=False)
    if mapper is not None:
        dataset = MapDataset(dataset, mapper)
    if isinstance(dataset, torchdata.IterableDataset):
        if sampler is not None:
            raise ArgumentError("an iterable dataset has its own order: the sampler must be None")
    elif sampler is None:
        sampler = InferenceSampler(len(dataset))
    skips = on_bad_sample == "skip" and isinstance(dataset, MapDataset)
    return (TolerantLoader if skips else InferenceLoader)(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=False,
        num_workers=num_workers,
        collate_fn=PicklableWrapper(collate_fn or trivial_batch_collator),
        worker_init_fn=worker_init_reset_seed,
        # With its own generator, an evaluation during training leaves the global one unchanged.
        generator=torch.Generator().manual_seed(0),
    )


def trivial_batch_collator(batch: list) -> list:
    """Return the list of samples unchanged.

    A batch is a list of dicts; the model pads and stacks the images (`ImageList.from_tensors`).
    """
    return batch


def _end_later(number: int, frame: FrameType | None) -> None:
    """End this process 30 seconds later, when the one that started it no longer needs it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.alarm(30)


def worker_init_reset_seed(worker_id: int) -> None:
    """Seed the random generators of a loader's worker process, and limit it to one thread.

    The worker ignores Ctrl-C and SIGTERM; the process that started it handles them.
    """
    cv2.setNumThreads(0)  # torch's loader does the same for torch's threads
    if torchdata.get_worker_info() is not None:
        # Ctrl-C reaches all processes of a terminal, but only the training process handles it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Schedulers send SIGTERM to all processes; training needs the workers to finish its step.
        if hasattr(signal, "alarm"):
            signal.signal(signal.SIGTERM, _end_later)
        release_signals()
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)
