"""Batches of images, and inputs that lack something."""

import pytest
import torch
from torch import nn

from d2lite.modeling.meta_arch.inputs import (
    batch_images,
    output_sizes,
    per_channel,
    required_field,
    set_pixel_statistics,
    takes_any_layout,
)

MEAN, STD = per_channel([1.0, 2.0, 3.0]), per_channel([1.0, 2.0, 4.0])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_images_are_normalized_and_padded_with_zeros(dtype: torch.dtype):
    images = [
        torch.randint(0, 255, (3, 5, 6)).to(dtype),
        torch.randint(0, 255, (3, 7, 3)).to(dtype),
    ]
    batch = batch_images(images, MEAN, STD, size_divisibility=4)
    assert batch.image_sizes == [(5, 6), (7, 3)]
    expected = torch.zeros(2, 3, 8, 8)
    for x, image in zip(expected, images, strict=True):
        x[:, : image.shape[1], : image.shape[2]] = (image - MEAN) / STD
    assert torch.equal(batch.tensor, expected)


@pytest.mark.parametrize(
    "grad, layout", [(True, torch.contiguous_format), (False, torch.channels_last)]
)
def test_layout_suits_what_is_done(grad: bool, layout: torch.memory_format):
    with torch.set_grad_enabled(grad):
        batch = batch_images([torch.ones(3, 5, 6)], MEAN, STD)
    assert batch.tensor.is_contiguous(memory_format=layout)


def test_modules_of_a_program_get_contiguous_features():
    class Tower(nn.Sequential):
        """Written elsewhere: `view` of channels last features is an error."""

    assert takes_any_layout(nn.Sequential(nn.Conv2d(3, 4, 1)))
    assert not takes_any_layout(nn.Sequential(Tower(nn.Conv2d(3, 4, 1))))
    with torch.no_grad():
        batch = batch_images([torch.ones(3, 5, 6)], MEAN, STD, any_layout=False)
    assert batch.tensor.is_contiguous()
    batch.tensor.view(1, -1)


def test_the_given_image_is_not_changed():
    image = torch.ones(3, 8, 8)
    batch_images([image], MEAN, STD)
    assert torch.equal(image, torch.ones(3, 8, 8))


def test_gradients_reach_the_images():
    """Gradients are 1 / std in each pixel, as programs that search for adversarial pixels need."""
    images = [torch.rand(1, 2, 4, requires_grad=True), torch.rand(1, 3, 2, requires_grad=True)]
    batch_images(
        images, torch.full((1, 1, 1), 0.5), torch.full((1, 1, 1), 4.0)
    ).tensor.sum().backward()
    assert all(torch.equal(image.grad, torch.full_like(image, 0.25)) for image in images)


def test_images_of_different_dtypes_keep_their_values():
    batch = batch_images(
        [torch.ones(3, 2, 2, dtype=torch.uint8), torch.full((3, 2, 2), 1.5)], MEAN, STD
    )
    assert batch.tensor[1, 0].unique().tolist() == [0.5]


def test_padding_to_a_square():
    batch = batch_images([torch.zeros(3, 5, 6)], MEAN, STD, 4, {"square_size": 16})
    assert batch.tensor.shape == (1, 3, 16, 16)


def test_missing_fields_are_named():
    with pytest.raises(ValueError, match=r"input 1 .*'instances'.*\['image'\]"):
        required_field([{"image": 0, "instances": 1}, {"image": 0}], "instances")


def test_results_have_the_wanted_size_or_that_of_the_image():
    inputs = [{"height": 10, "width": 20}, {}]
    assert output_sizes(inputs, [(1, 2), (3, 4)]) == [(10, 20), (3, 4)]


def test_pixel_statistics_must_agree():
    with pytest.raises(ValueError, match=r"PIXEL_MEAN has 3 values .*PIXEL_STD 1"):
        set_pixel_statistics(nn.Module(), [1, 2, 3], [1])


def test_images_of_other_channels_than_the_means_are_told():
    mean = torch.zeros(3, 1, 1)
    with pytest.raises(ValueError, match=r"images have 4 channels, MODEL\.PIXEL_MEAN .* 3"):
        batch_images([torch.zeros(4, 8, 8)], mean, mean + 1)
