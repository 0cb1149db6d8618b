"""ROIAlign against detectron2's figures and torchvision's kernel."""

import math
import sys

import pytest
import torch
import torchvision

from d2lite.layers import ROIAlign, multilevel_roi_align, roi_align, sparse_pool
from tests.golden import case_names, load_case

roi_align_module = sys.modules["d2lite.layers.roi_align"]  # the package has a function so named
UPRIGHT = [name for name in case_names("roi_align.") if "rotated" not in name]


@pytest.mark.parametrize("name", UPRIGHT)
def test_golden(name):
    case = load_case(name)
    x = case.tensor("x").requires_grad_()
    params = case.params
    pool = ROIAlign(
        tuple(params["output_size"]), params["scale"], params["sampling_ratio"], params["aligned"]
    )
    y = pool(x, case.tensor("rois"))
    case.check("y", y)
    y.backward(case.tensor("gy"))
    case.check("gx", x.grad)


def random_rois(count, generator, image_size=(64, 80), images=2):
    """(count, 5) boxes of all sizes, some of them partly or wholly outside of the image."""
    height, width = image_size
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 1.4
    corner -= 0.2 * torch.tensor([width, height])
    extent = torch.exp(torch.rand(count, 2, generator=generator) * math.log(height))
    image = torch.randint(images, (count, 1), generator=generator).float()
    return torch.cat([image, corner, corner + extent], dim=1)


def torchvision_answer(features, rois, levels, scales, size, sampling_ratio, aligned):
    out = features[0].new_zeros(len(rois), features[0].shape[1], *size)
    for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        mine = (levels == level).nonzero()[:, 0]
        crops = torchvision.ops.roi_align(feature, rois[mine], size, scale, sampling_ratio, aligned)
        out = out.index_put((mine,), crops)
    return out


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 3])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("images", [1, 2])
def test_levels_agree_with_torchvision(aligned, sampling_ratio, channels_last, images):
    generator = torch.Generator().manual_seed(sampling_ratio)
    scales = [0.5, 0.25, 0.125]
    features = [
        torch.randn(images, 5, int(64 * s), int(80 * s), generator=generator) for s in scales
    ]
    if channels_last:
        features = [f.contiguous(memory_format=torch.channels_last) for f in features]
    rois = random_rois(60, generator, images=images)
    levels = torch.randint(2, (60,), generator=generator) * 2  # none on the middle level
    answers, gradients = [], []
    upstream = torch.randn(60, 5, 3, 4, generator=generator)
    for function in (torchvision_answer, multilevel_roi_align):
        inputs = [f.clone().requires_grad_() for f in features]
        answers.append(function(inputs, rois, levels, scales, (3, 4), sampling_ratio, aligned))
        gradients.append(torch.autograd.grad(answers[-1], inputs, upstream))
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-4, atol=1e-4)
    assert answers[1].is_contiguous()
    for feature, got, want in zip(features, gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
        assert got.stride() == feature.stride()


@pytest.mark.parametrize("levels", [1, 2])
def test_compiled_graphs_give_the_same(monkeypatch, levels):
    generator = torch.Generator().manual_seed(0)
    scales = [0.5, 0.25][:levels]
    features = [torch.randn(2, 3, int(64 * s), int(80 * s), generator=generator) for s in scales]
    rois = random_rois(20, generator)
    of_roi = torch.arange(20) % levels
    want = multilevel_roi_align(features, rois, of_roi, scales, (3, 4), 0, True)
    monkeypatch.setattr(roi_align_module, "check_if_dynamo_compiling", lambda: True)
    got = multilevel_roi_align(features, rois, of_roi, scales, (3, 4), 0, True)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_small_bounds_change_nothing(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 130, 20, 20, generator=generator, requires_grad=True)
    rois = random_rois(30, generator, image_size=(20, 20), images=1)

    def answer():
        y = roi_align(x, rois, (2, 3), 1.0, 0, True)
        return y, torch.autograd.grad(y.sin().sum(), x)[0]

    want = answer()
    for name in ("TERMS_PER_CHUNK", "TERMS_PER_GRADIENT", "VALUES_PER_TABLE", "BINS_PER_CHUNK"):
        monkeypatch.setattr(sparse_pool, name, 50)
    for got, expected in zip(answer(), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_bin_over_four_cells_worked_by_hand():
    x = torch.arange(4.0).view(1, 1, 2, 2)
    # The box spans both cells' centers, and its one sample lies in the middle of the four.
    box = torch.tensor([[0.0, 0.5, 0.5, 1.5, 1.5]])
    assert roi_align(x, box, 1, 1.0, 0, True).item() == pytest.approx(1.5)


@pytest.mark.parametrize(
    "box",
    [
        (30.0, 30.0, 40.0, 40.0),  # outside
        (2.0, 2.0, 2.0, 5.0),  # without width
        (5.0, 5.0, 2.0, 2.0),  # inside out
    ],
)
def test_boxes_without_samples_give_zeros(box):
    x = torch.ones(1, 2, 8, 8)
    y = roi_align(x, torch.tensor([[0.0, *box]]), 2, 1.0, 0, aligned=True)
    assert y.shape == (1, 2, 2, 2)
    assert not y.any()


def test_no_rois_still_give_gradients():
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    y = roi_align(x, torch.zeros(0, 5), (7, 5))
    assert y.shape == (0, 3, 7, 5)
    y.sum().backward()
    assert not x.grad.any()


def test_list_of_boxes_is_one_set_per_image():
    x = torch.randn(2, 3, 8, 8)
    boxes = [torch.tensor([[1.0, 1, 5, 6]]), torch.tensor([[0.0, 0, 4, 4], [2, 2, 7, 8]])]
    want = torchvision.ops.roi_align(x, boxes, 2, aligned=True)
    torch.testing.assert_close(roi_align(x, boxes, 2, aligned=True), want)


def test_gradient_is_that_of_finite_differences():
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[0, 0.3, 0.7, 4.2, 3.9], [0, 1.0, 1.0, 2.0, 9.0]])
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, 2, 1.0, 0, True), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_in_low_precision_out(dtype):
    x = torch.randn(1, 4, 8, 8)
    rois = torch.tensor([[0, 1.0, 1.0, 6.0, 7.0]])
    got = roi_align(x.to(dtype), rois, 2, 1.0, 2, True)
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), roi_align(x, rois, 2, 1.0, 2, True), rtol=0, atol=0.05)


def test_rois_of_wrong_width_are_refused():
    with pytest.raises(ValueError, match=r"\(R, 5\).*\(3, 4\)"):
        ROIAlign(2, 1.0, 0)(torch.zeros(1, 1, 4, 4), torch.zeros(3, 4))
