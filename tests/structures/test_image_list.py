import pytest
import torch

from d2lite.structures import ImageList
from tests.golden import load_case


@pytest.mark.parametrize("call", range(7))
def test_from_tensors_equals_detectron2(call):
    case = load_case("structures.image_list")
    keywords = dict(case.params["calls"][call])
    tensors = [case.tensor(f"t{i}") for i in range(keywords.pop("take", case.params["n"]))]
    images = ImageList.from_tensors(tensors, **keywords)
    case.check(f"call{call}.shape", list(images.tensor.shape))
    case.check(f"call{call}.sum", images.tensor.double().sum())
    case.check(f"call{call}.corner", images.tensor[0, 0, -3:, -3:])
    assert [list(size) for size in images.image_sizes] == case.outputs[f"call{call}.sizes"]


def test_items_are_the_images_without_padding():
    tensors = [torch.rand(3, 4, 6), torch.rand(3, 5, 2)]
    images = ImageList.from_tensors(tensors, size_divisibility=4)
    assert len(images) == 2
    assert all(torch.equal(images[i], tensors[i]) for i in range(2))


def test_padding_has_its_value_on_both_sides():
    images = ImageList.from_tensors([torch.zeros(1, 1, 3), torch.zeros(1, 2, 1)], pad_value=7.0)
    assert images.tensor[:, 0].tolist() == [[[0, 0, 0], [7, 7, 7]], [[0, 7, 7], [0, 7, 7]]]


def test_one_image_that_needs_no_padding_is_not_copied():
    image = torch.rand(3, 4, 4)
    assert ImageList.from_tensors([image], 4).tensor.data_ptr() == image.data_ptr()


def test_maps_without_channels_are_padded_too():
    images = ImageList.from_tensors([torch.zeros(2, 3), torch.zeros(3, 2)])
    assert images.tensor.shape == (2, 3, 3) and images[0].shape == (2, 3)


def test_an_image_larger_than_the_square_is_refused():
    with pytest.raises(ValueError, match="square_size is 4, but an image is 3 x 5"):
        ImageList.from_tensors([torch.zeros(1, 3, 5)], padding_constraints={"square_size": 4})


def test_moving_keeps_the_sizes():
    images = ImageList.from_tensors([torch.zeros(1, 3, 5)]).to(torch.float64)
    assert images.tensor.dtype == torch.float64 and images.image_sizes == [(3, 5)]
    assert images.device.type == "cpu"
