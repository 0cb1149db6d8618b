"""Inputs and outputs of all meta-architectures: batching images, checking ground truth, scaling
results.

Inputs are lists of dicts, one per image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from d2lite.modeling.postprocessing import detector_postprocess
from d2lite.structures import ImageList, Instances
from d2lite.utils.errors import ArgumentError

# Packages whose modules accept inputs in any memory layout.
LAYOUT_FREE = {"d2lite", "torch", "torchvision", "fvcore", "timm"}


def set_pixel_statistics(
    model: nn.Module, pixel_mean: Sequence[float], pixel_std: Sequence[float]
) -> None:
    """Register the buffers that `batch_for` normalizes with; each has one value per channel.

    Raises:
        ValueError: pixel_mean and pixel_std differ in length.
    """
    if len(pixel_mean) != len(pixel_std):
        raise ArgumentError(
            f"MODEL.PIXEL_MEAN has {len(pixel_mean)} values and MODEL.PIXEL_STD {len(pixel_std)}; "
            "both need one for each channel of the image"
        )
    model.register_buffer("pixel_mean", per_channel(pixel_mean), persistent=False)
    model.register_buffer("pixel_std", per_channel(pixel_std), persistent=False)


def batch_for(model: nn.Module, images: Sequence[Tensor]) -> ImageList:
    """Pad images into a normalized batch for the `backbone` of a model."""
    return batch_images(
        images,
        model.pixel_mean,
        model.pixel_std,
        model.backbone.size_divisibility,
        model.backbone.padding_constraints,
        any_layout=takes_any_layout(model),
    )


def batch_images(
    images: Sequence[Tensor],
    pixel_mean: Tensor,
    pixel_std: Tensor,
    size_divisibility: int = 0,
    padding_constraints: Mapping[str, int] | None = None,
    any_layout: bool = True,
) -> ImageList:
    """Pad images into one batch on the device of `pixel_mean`, and normalize it once.

    Args:
        images: (C, Hi, Wi), of any dtype.
        pixel_mean, pixel_std: (C, 1, 1).
        size_divisibility, padding_constraints: of the padded size, see `ImageList.from_tensors`.
        any_layout: whether the model accepts any memory layout, see `takes_any_layout`.
    Returns:
        (image - mean) / std, padded with zeros, in the fastest memory layout for convolutions.
    """
    images = [image.to(pixel_mean.device, non_blocking=True) for image in images]
    if len({image.dtype for image in images}) > 1:
        images = [image.to(pixel_mean.dtype) for image in images]
    raw = ImageList.from_tensors(
        images, size_divisibility, padding_constraints=dict(padding_constraints or {})
    )
    # Convolutions are faster in channels last. On CPUs it saves a sixth of inference, but the
    # gradient of a 3 x 3 convolution takes twice as long in it, and a training step a quarter
    # longer (oneDNN, float32).
    slower = raw.tensor.device.type == "cpu" and torch.is_grad_enabled()
    layout = torch.channels_last if any_layout and not slower else torch.contiguous_format
    batch = raw.tensor.contiguous(memory_format=layout)
    channels, means = batch.shape[1], len(pixel_mean)
    if channels != means and 1 not in (channels, means):
        raise ValueError(
            f"the images have {channels} channels, MODEL.PIXEL_MEAN and PIXEL_STD {means}; give "
            "one value for each channel of INPUT.FORMAT"
        )
    batch = (batch - pixel_mean).div_(pixel_std)
    # By index, because writing to views of the batch would block gradients to the images.
    for i, (height, width) in enumerate(raw.image_sizes):
        batch[i, :, height:] = 0
        batch[i, :, :height, width:] = 0
    return ImageList(batch, raw.image_sizes)


def takes_any_layout(model: nn.Module) -> bool:
    """Return whether all modules of a model accept any memory layout, that is, none is custom.

    Custom modules written for detectron2 may rely on contiguous features: with channels last,
    `x.view(N, -1)` raises an error.
    """
    return all(type(part).__module__.partition(".")[0] in LAYOUT_FREE for part in model.modules())


def per_channel(values: Sequence[float]) -> Tensor:
    """Return one value per channel as a (C, 1, 1) tensor, to be combined with (C, H, W) images."""
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)


def required_field(batched_inputs: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """Return entry `name` of every input; raise a ValueError that names the input lacking it."""
    for i, x in enumerate(batched_inputs):
        if name not in x:
            raise ValueError(f"input {i} of the batch has no {name!r}, only {sorted(x)}")
    return [x[name] for x in batched_inputs]


def ground_truth(
    batched_inputs: Sequence[Mapping[str, Any]],
    device: torch.device,
    num_classes: int | None = None,
    class_count_keys: Mapping[str, str] | None = None,
) -> list[Instances] | None:
    """Return the "instances" of all inputs; None if the first input has none.

    A model whose heads need no ground truth can train without.

    Args:
        device: device of the model.
        num_classes: of the model; None if the classes of objects don't matter.
        class_count_keys: of the model; the first is named in the message.

    Raises:
        ValueError: an object has a class that the model lacks; the message names image and class.
    """
    if "instances" not in batched_inputs[0]:
        return None
    if num_classes is not None:
        check_classes(
            batched_inputs, num_classes, next(iter(class_count_keys or ()), "NUM_CLASSES")
        )
    return [x.to(device) for x in required_field(batched_inputs, "instances")]


def check_classes(
    batched_inputs: Sequence[Mapping[str, Any]], num_classes: int, key: str = "NUM_CLASSES"
) -> None:
    """Check that the `gt_classes` of all inputs are classes of the model.

    Without the check, most losses would silently treat a class beyond the last as background.

    Args:
        batched_inputs: with "instances" as loaders return them: on the CPU, where reading their
            values needs no synchronization.
        key: config key to name in the message.
    Raises:
        ValueError: the message names the image and the class.
    """
    for x in batched_inputs:
        instances = x.get("instances")
        if instances is None or not instances.has("gt_classes") or not len(instances):
            continue
        low, high = (int(v) for v in torch.aminmax(instances.gt_classes))
        if low < 0 or high >= num_classes:
            raise ValueError(_wrong_class(x, low if low < 0 else high, num_classes, key))


def check_labels(
    batched_inputs: Sequence[Mapping[str, Any]],
    sem_seg_head: nn.Module,
    key: str = "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
) -> None:
    """Check that the labels in "sem_seg" of all inputs are classes of the head.

    Pixels with the head's `ignore_value` don't count. If a custom head has no `num_classes`, all
    labels pass.
    """
    num_classes = getattr(sem_seg_head, "num_classes", None)
    if num_classes is None:
        return
    ignore_value = sem_seg_head.ignore_value
    for x in batched_inputs:
        labels = x["sem_seg"]
        labels = labels[labels != ignore_value]
        if not labels.numel():
            continue
        low, high = (int(v) for v in torch.aminmax(labels))
        if low < 0 or high >= num_classes:
            raise ValueError(
                f"{_wrong_class(x, low if low < 0 else high, num_classes, key)} Pixels that do not "
                f"count have the label {ignore_value} (MODEL.SEM_SEG_HEAD.IGNORE_VALUE)"
            )


def _wrong_class(x: Mapping[str, Any], found: int, num_classes: int, key: str) -> str:
    name = x.get("sem_seg_file_name") or x.get("file_name") or "an image of the batch"
    return (
        f"{name} has a label of class {found}, but the model has the classes 0 to "
        f"{num_classes - 1}; set {key} to the number of classes of the data, or correct the label."
    )


def output_sizes(
    batched_inputs: Sequence[Mapping[str, Any]], image_sizes: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return the requested (height, width) of each result; by default that of the input image."""
    return [
        (x.get("height", height), x.get("width", width))
        for x, (height, width) in zip(batched_inputs, image_sizes, strict=True)
    ]


def postprocess(
    instances: Sequence[Instances],
    batched_inputs: Sequence[Mapping[str, Any]],
    image_sizes: Sequence[tuple[int, int]],
    name: str = "instances",
) -> list[dict[str, Instances]]:
    """Scale the results of each image to the requested size, and return them as {name: result}."""
    sizes = output_sizes(batched_inputs, image_sizes)
    return [
        {name: detector_postprocess(x, *size)} for x, size in zip(instances, sizes, strict=True)
    ]
