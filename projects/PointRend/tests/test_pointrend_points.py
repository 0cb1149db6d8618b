"""Points, worked out by hand: where they lie and what is read there; point heads and their loss."""

import math

import pytest
import torch

from d2lite.config import get_cfg
from d2lite.layers import ShapeSpec
from d2lite.projects.point_rend import (
    ImplicitPointHead,
    ImplicitPointRendMaskHead,
    PointRendMaskHead,
    StandardPointHead,
    add_pointrend_config,
    mask_head,
    semantic_seg,
)
from d2lite.projects.point_rend.point_features import (
    generate_regular_grid_point_coords,
    get_point_coords_wrt_image,
    get_uncertain_point_coords_on_grid,
    get_uncertain_point_coords_with_randomness,
    point_sample,
    point_sample_fine_grained_features,
    sample_point_labels,
    subdivide,
)
from d2lite.projects.point_rend.point_head import roi_mask_point_loss
from d2lite.structures import BitMasks, Boxes, Instances, PolygonMasks
from d2lite.utils.events import EventStorage

CPU = torch.device("cpu")
RAMP = torch.arange(6.0).view(1, 1, 2, 3)  # rows 0 1 2 and 3 4 5


def about(values, tolerance=1e-6):
    return pytest.approx(values, abs=tolerance)


def test_points_of_a_grid_are_centers_row_by_row():
    got = generate_regular_grid_point_coords(2, 2, CPU)
    assert got.tolist() == [[[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]] * 2
    assert generate_regular_grid_point_coords(0, 7, CPU).shape == (0, 49, 2)


@pytest.mark.parametrize(
    "point, expected",
    [
        ((1 / 6, 0.25), 0.0),  # center of the first cell
        ((0.5, 0.75), 4.0),
        ((0.5, 0.5), 2.5),  # between the rows
        ((1 / 3, 0.25), 0.5),  # between two columns
        ((0.0, 0.25), 0.0),  # on the edge: half of the cell and half of the zeros outside
        ((-1.0, 0.25), 0.0),
    ],
)
def test_a_map_is_read_between_its_cells(point, expected):
    coords = torch.tensor(point).view(1, 1, 2)
    assert point_sample(RAMP, coords, align_corners=False).tolist() == [[[about(expected)]]]
    grid = point_sample(RAMP, coords[:, None], align_corners=False)
    assert grid.tolist() == [[[[about(expected)]]]]


def test_uncertain_cells_come_with_their_centers():
    uncertainty = -torch.tensor([[[[5.0, 1.0, 4.0], [3.0, 0.0, 9.0]]]])
    indices, coords = get_uncertain_point_coords_on_grid(uncertainty, 2)
    assert indices.tolist() == [[4, 1]]
    assert coords.tolist() == [[about([0.5, 0.75]), about([0.5, 0.25])]]
    indices, coords = get_uncertain_point_coords_on_grid(uncertainty, 100)
    assert sorted(indices[0].tolist()) == [0, 1, 2, 3, 4, 5] and coords.shape == (1, 6, 2)


def test_training_points_gather_where_the_logits_change_sign():
    logits = torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2).expand(3, 1, 8, 2)  # 0 in the middle

    def draw(importance, num_points=40):
        return get_uncertain_point_coords_with_randomness(
            logits, lambda x: -x.abs(), num_points, 3, importance
        )

    def certainty(points):
        return point_sample(logits, points, align_corners=False).abs()

    points = draw(0.75)
    assert points.shape == (3, 40, 2) and points.min() >= 0 and points.max() < 1
    # Of 120 points the least certain 30 stay; the last ten are like all.
    assert certainty(points[:, :30]).max() < 0.6 < certainty(points[:, 30:]).max()
    assert draw(1.0).shape == draw(0.0).shape == (3, 40, 2)
    with pytest.raises(ValueError, match=r"IMPORTANCE_SAMPLE_RATIO is 1.5"):
        draw(1.5)
    with pytest.raises(ValueError, match=r"OVERSAMPLE_RATIO is 0.5"):
        get_uncertain_point_coords_with_randomness(logits, lambda x: x, 4, 0.5, 1.0)


def test_random_numbers_are_drawn_in_this_order():
    """Points to choose from, then the random rest: what a seed gives depends on it."""
    torch.manual_seed(5)
    drawn, rest = torch.rand(2, 12, 2), torch.rand(2, 1, 2)
    torch.manual_seed(5)
    got = get_uncertain_point_coords_with_randomness(
        torch.zeros(2, 1, 4, 4), lambda x: -x.abs(), 4, 3, 0.75
    )
    assert torch.equal(got[:, 3:], rest)
    for points, candidates in zip(got, drawn.tolist(), strict=True):
        assert all(point in candidates for point in points[:3].tolist())


def test_subdivision_predicts_the_uncertain_cells_only():
    logits = torch.tensor([[-4.0, -4.0], [4.0, 4.0]]).view(1, 1, 2, 2)
    seen = []

    def predict(points):
        seen.append(points)
        return torch.full((1, 1, points.shape[1]), 77.0)

    got = subdivide(logits, lambda x: -x.abs(), 8, predict)[0, 0]
    # Rows of the doubled map are -4, -2, 2, 4; those in the middle are nearer to 0.
    assert got.tolist() == [[-4.0] * 4, [77.0] * 4, [77.0] * 4, [4.0] * 4]
    assert sorted(set(seen[0][0, :, 1].tolist())) == [0.375, 0.625]


def test_points_of_boxes_are_read_from_the_features_of_their_image():
    boxes = [Boxes(torch.tensor([[0.0, 0.0, 24.0, 16.0], [8.0, 0.0, 24.0, 8.0]])), Boxes([])]
    boxes.append(Boxes(torch.tensor([[0.0, 8.0, 8.0, 16.0]])))
    features = torch.cat([RAMP, RAMP + 100, RAMP + 200])  # stride 8: images of 16 x 24 pixels
    centers = torch.full((3, 1, 2), 0.5)
    got, coords = point_sample_fine_grained_features(
        [features, 2 * features], [1 / 8, 1 / 8], boxes, centers
    )
    assert coords[:, 0].tolist() == [[12.0, 8.0], [16.0, 4.0], [4.0, 12.0]]
    assert got[:, 0, 0].tolist() == about([2.5, 1.5, 203.0], 1e-4)
    assert torch.equal(got[:, 1], 2 * got[:, 0])


def test_corners_of_a_box_become_pixels():
    box = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    points = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [0.25, 0.5]]])
    got = get_point_coords_wrt_image(box, points)
    assert got.tolist() == [[[10.0, 20.0], [30.0, 60.0], [15.0, 40.0]]]


def test_labels_are_read_from_the_masks():
    mask = torch.zeros(1, 4, 8, dtype=torch.bool)
    mask[0, :, 4:] = True  # the right half
    x = Instances((4, 8), gt_masks=BitMasks(mask))
    points = torch.tensor([[[1.5, 2.0], [6.0, 2.0], [4.0, 2.0], [4.5, 2.0]]])
    assert sample_point_labels([x, Instances((4, 8), a=torch.zeros(0))], points).tolist() == [
        about([0.0, 1.0, 0.5, 1.0])  # on the edge a half
    ]
    none = sample_point_labels([Instances((4, 8), a=torch.zeros(0))], points[:0])
    assert none.shape == (0, 4)
    polygons = Instances((4, 8), gt_masks=PolygonMasks([[[0, 0, 4, 0, 4, 4]]]))
    with pytest.raises(ValueError, match=r"not on PolygonMasks: set INPUT.MASK_FORMAT bitmask"):
        sample_point_labels([polygons], points)


@pytest.mark.parametrize("labels, expected", [([1.0, 0.0], 2.0), ([1.0, -1.0], 1.5), ([-1, -1], 0)])
def test_loss_is_the_mean_over_all_points_but_ignored_ones_add_nothing(labels, expected):
    """The logits are chosen to give a cross entropy of 3 for a label of 1, and of 1 for a 0."""
    logits = torch.zeros(1, 2, 2)
    logits[0, 1] = torch.tensor([-math.log(math.expm1(3)), math.log(math.expm1(1))])
    x = Instances((4, 4), gt_classes=torch.tensor([1]))
    with EventStorage() as storage:
        assert roi_mask_point_loss(logits, [x], torch.tensor([labels])).item() == about(expected)
    assert "point/accuracy" in storage.latest()
    shared = roi_mask_point_loss(logits[:, 1:], [x], torch.tensor([labels]))  # one for all classes
    assert shared.item() == about(expected)


def test_loss_of_no_objects_is_zero_with_a_gradient():
    logits = torch.zeros(0, 2, 5, requires_grad=True)
    loss = roi_mask_point_loss(logits, [Instances((4, 4), gt_classes=torch.zeros(0).long())], None)
    loss.backward()
    assert loss == 0 and logits.grad.shape == (0, 2, 5)


def test_uncertainty_is_greatest_where_classes_tie():
    logits = torch.tensor([[[3.0], [-2.0]], [[1.0], [0.5]]])  # (2, 2, 1)
    assert mask_head.calculate_uncertainty(logits, torch.tensor([0, 1])).flatten().tolist() == [
        -3.0,
        -0.5,
    ]
    assert mask_head.calculate_uncertainty(logits[:, :1], None).flatten().tolist() == [-3.0, -1.0]
    maps = torch.tensor([5.0, 2.0, 4.5]).view(1, 3, 1, 1)
    assert semantic_seg.calculate_uncertainty(maps).tolist() == [[[[-0.5]]]]


def test_standard_head_shows_the_coarse_prediction_to_every_layer():
    shape = ShapeSpec(channels=3)
    head = StandardPointHead(shape, num_classes=2, fc_dims=[4, 6])
    assert [x.weight.shape[:2] for x in (*head.fc_layers, head.predictor)] == [
        (4, 5),
        (6, 6),
        (2, 8),
    ]
    once = StandardPointHead(shape, num_classes=2, fc_dims=[4, 6], coarse_pred_each_layer=False)
    assert [x.weight.shape[:2] for x in (*once.fc_layers, once.predictor)] == [
        (4, 5),
        (6, 4),
        (2, 6),
    ]
    one = StandardPointHead(shape, num_classes=2, fc_dims=[4], cls_agnostic_mask=True)
    assert one(torch.zeros(0, 3, 7), torch.zeros(0, 2, 7)).shape == (0, 1, 7)


def test_implicit_head_runs_the_network_of_each_mask():
    head = ImplicitPointHead(
        ShapeSpec(channels=1), num_classes=1, channels=2, num_layers=2, image_feature_enabled=True
    )
    assert head.num_params == 2 * 257 + 2 * 1 + 2 + 1
    # First hidden unit: twice the feature, minus 1; second: the cosine of the first projection.
    weights = torch.zeros(2, 257)
    weights[0, 256], weights[1, 128] = 2.0, 1.0
    parameters = torch.cat([weights.flatten(), torch.tensor([1.0, 10.0, -1.0, 0.0, 0.25])])
    head.positional_encoding_gaussian_matrix.zero_()
    head.positional_encoding_gaussian_matrix[0, 0] = 0.5  # of x alone
    features = torch.tensor([[[3.0, 0.0]]])
    points = torch.tensor([[[0.5, 0.1], [2 / 3, 0.9]]])  # angles of 0 and pi / 3
    got = head(features, points, parameters[None])
    assert got.tolist() == [[about([5.0 + 10.0 + 0.25, 0.0 + 10 * 0.5 + 0.25], 1e-5)]]
    assert head(features[:0], points[:0], parameters[None][:0]).shape == (0, 1, 2)


def test_implicit_head_needs_something_to_tell_points_apart():
    with pytest.raises(ValueError, match="IMAGE_FEATURE_ENABLED and POS_ENC_ENABLED off"):
        ImplicitPointHead(
            ShapeSpec(channels=1),
            num_classes=1,
            channels=2,
            num_layers=2,
            image_feature_enabled=False,
            positional_encoding_enabled=False,
        )
    alone = ImplicitPointHead(
        ShapeSpec(channels=1),
        num_classes=1,
        channels=2,
        num_layers=2,
        positional_encoding_enabled=False,
    )
    assert alone.in_channels == 1 and not list(alone.buffers())


@pytest.mark.parametrize(
    "head, settings, message",
    [
        (
            PointRendMaskHead,
            {"MODEL.ROI_MASK_HEAD.POINT_HEAD_ON": True, "MODEL.POINT_HEAD.NUM_CLASSES": 3},
            r"POINT_HEAD\.NUM_CLASSES is 3 and MODEL\.ROI_HEADS\.NUM_CLASSES 80",
        ),
        (
            ImplicitPointRendMaskHead,
            {
                "MODEL.POINT_HEAD.NAME": "ImplicitPointHead",
                "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS": 800,
            },
            r"SUBDIVISION_NUM_POINTS is 800; .* must be a square",
        ),
    ],
)
def test_settings_that_do_not_fit_are_named(head, settings, message):
    cfg = get_cfg()
    add_pointrend_config(cfg)
    cfg.merge_from_list([x for item in settings.items() for x in item])
    with pytest.raises(ValueError, match=message):
        head(cfg, {"p2": ShapeSpec(channels=4, stride=4)})
