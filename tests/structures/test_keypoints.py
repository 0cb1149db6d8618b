import pytest
import torch
import torch.nn.functional as F

from d2lite.structures import Keypoints, heatmaps_to_keypoints, keypoints
from tests.golden import load_case


@pytest.fixture(scope="module")
def case():
    return load_case("keypoints.encode_decode")


def test_heatmap_cells_equal_detectron2(case):
    cells, valid = Keypoints(case.tensor("keypoints")).to_heatmap(
        case.tensor("boxes"), case.params["heatmap_size"]
    )
    case.check("heatmap_index", cells)
    case.check("valid", valid)


def test_decoding_equals_detectron2(case):
    case.check("decoded", heatmaps_to_keypoints(case.tensor("maps"), case.tensor("rois")))


@pytest.mark.parametrize("limit", [1, 2**30])
def test_decoding_one_by_one_or_all_together_is_the_same(case, monkeypatch, limit):
    monkeypatch.setitem(keypoints._MAX_DECODED_VALUES, "cpu", limit)
    case.check("decoded", heatmaps_to_keypoints(case.tensor("maps"), case.tensor("rois")))


@pytest.mark.parametrize("size", [1, 5, 13])
def test_bicubic_weights_do_what_interpolate_does(size):
    torch.manual_seed(0)
    source = torch.rand(1, 1, 1, 7)
    want = F.interpolate(source, size=(1, size), mode="bicubic", align_corners=False)
    got = source @ keypoints._bicubic_weights(torch.tensor([size]), 7).transpose(2, 3)
    assert torch.allclose(got, want, atol=1e-6)


@pytest.mark.parametrize(
    "point, cell, valid",
    [
        ((0, 0, 2), 0, 1),
        ((4.9, 5, 1), 2 * 4 + 1, 1),  # cells are 2.5 wide: row 2, column 1
        ((10, 10, 2), 15, 1),  # on the far edges: the last cell
        ((10.1, 5, 2), 0, 0),
        ((5, 5, 0), 0, 0),
    ],
)
def test_cells_by_hand(point, cell, valid):
    got = Keypoints([[point]]).to_heatmap(torch.tensor([[0.0, 0.0, 10.0, 10.0]]), 4)
    assert (got[0].item(), got[1].item()) == (cell, valid)


def test_no_objects_give_no_cells_and_no_points():
    cells, valid = Keypoints(torch.zeros(0, 17, 3)).to_heatmap(torch.zeros(0, 4), 56)
    assert cells.shape == valid.shape == (0, 17)
    assert heatmaps_to_keypoints(torch.zeros(0, 3, 8, 8), torch.zeros(0, 4)).shape == (0, 3, 4)


def test_containers_index_and_join():
    points = Keypoints(torch.rand(3, 2, 3))
    assert points[0].tensor.shape == (1, 2, 3)
    assert torch.equal(points[torch.tensor([False, True, True])].tensor, points.tensor[1:])
    assert len(Keypoints.cat([points, points[0]])) == 4


def test_other_shapes_are_refused():
    with pytest.raises(AssertionError, match=r"\(N, K, 3\), found \(2, 3\)"):
        Keypoints(torch.zeros(2, 3))
