"""IoU of rotated boxes: detectron2's figures, cases by hand, and polygon clipping."""

import math

import pytest
import torch

from d2lite.layers import pairwise_iou_rotated, rotated_boxes
from d2lite.layers.rotated_boxes import corners_in_frame_of, intersection_area
from tests.golden import load_case


def iou(a, b):
    return pairwise_iou_rotated(torch.tensor([a]), torch.tensor([b])).item()


def test_area_shared_by_a_square_and_itself_turned():
    # A regular octagon around a circle of radius 2: 8 r^2 tan(pi / 8).
    upright = torch.tensor([[3.0, 4.0, 4.0, 4.0, 0.0]]).double()
    turned = torch.tensor([[3.0, 4.0, 4.0, 4.0, 45.0]]).double()
    expected = 8 * 4 * math.tan(math.pi / 8)
    assert intersection_area(upright, turned).item() == pytest.approx(expected)


def test_corners_in_the_frame_of_another_box():
    # Seen from a box that is turned counter-clockwise by 90 degrees, what lies right lies below.
    a = torch.tensor([[5.0, 2.0, 2.0, 4.0, 0.0]]).double()
    b = torch.tensor([[2.0, 2.0, 7.0, 1.0, 90.0]]).double()
    x, y = corners_in_frame_of(a, b)
    corners = {(round(p), round(q)) for p, q in zip(x[0].tolist(), y[0].tolist(), strict=True)}
    assert corners == {(-2, 2), (2, 2), (-2, 4), (2, 4)}


def test_golden():
    case = load_case("boxes.rotated")
    case.check("layer_iou", pairwise_iou_rotated(case.tensor("boxes1"), case.tensor("boxes2")))


@pytest.mark.parametrize("angle", [0.0, 30.0, 45.0, 90.0, 137.0, -179.5])
@pytest.mark.parametrize(
    "other, expected",
    [
        ((5.0, 5.0, 8.0, 4.0, 0.0), 1.0),  # itself
        ((5.0, 5.0, 4.0, 8.0, 90.0), 1.0),  # itself by another name
        ((5.0, 5.0, 8.0, 4.0, 180.0), 1.0),
        ((5.0, 5.0, 4.0, 2.0, 0.0), 0.25),  # inside
        ((5.0, 5.0, 4.0, 8.0, 0.0), 16 / 48),  # a cross
        ((9.0, 5.0, 8.0, 4.0, 0.0), 1 / 3),  # shares two sides' lines
        ((13.0, 5.0, 8.0, 4.0, 0.0), 0.0),  # touches along a side
        ((13.0, 9.0, 8.0, 4.0, 0.0), 0.0),  # touches at a corner
        ((99.0, 5.0, 8.0, 4.0, 20.0), 0.0),  # far away
        ((5.0, 5.0, 0.0, 4.0, 0.0), 0.0),  # empty
    ],
)
def test_worked_by_hand_whatever_the_common_rotation(angle, other, expected):
    def turned(box):  # around the first box's center, counter-clockwise with y pointing down
        radians = math.radians(angle)
        dx, dy = box[0] - 5, box[1] - 5
        x = 5 + dx * math.cos(radians) + dy * math.sin(radians)
        y = 5 - dx * math.sin(radians) + dy * math.cos(radians)
        return (x, y, box[2], box[3], box[4] + angle)

    got = iou(turned((5.0, 5.0, 8.0, 4.0, 0.0)), turned(other))
    assert got == pytest.approx(expected, abs=2e-6)


def test_a_square_turned_by_45_degrees_leaves_an_octagon():
    octagon = 8 * (math.sqrt(2) - 1)  # of unit inradius
    assert iou((0.0, 0, 2, 2, 0), (0.0, 0, 2, 2, 45)) == pytest.approx(octagon / (8 - octagon))


def clipped_area(a, b):
    """Sutherland-Hodgman in plain Python: the area that two convex polygons share."""
    polygon = a
    for (x0, y0), (x1, y1) in zip(b, b[1:] + b[:1], strict=True):

        def side(p, x0=x0, y0=y0, x1=x1, y1=y1):
            return (x1 - x0) * (p[1] - y0) - (y1 - y0) * (p[0] - x0)

        kept = []
        for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            if side(p) >= 0:
                kept.append(p)
            if side(p) * side(q) < 0:
                t = side(p) / (side(p) - side(q))
                kept.append((p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])))
        polygon = kept
    turns = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return sum(p[0] * q[1] - p[1] * q[0] for p, q in turns) / 2


def corners(box):
    x, y, w, h, angle = box
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    signs = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    sides = [(sx * w / 2, sy * h / 2) for sx, sy in signs]
    return [(x + u * cos + v * sin, y - u * sin + v * cos) for u, v in sides]


def test_agrees_with_polygon_clipping(monkeypatch):
    monkeypatch.setattr(rotated_boxes, "PAIRS_PER_CHUNK", 13)  # several chunks of both kinds
    generator = torch.Generator().manual_seed(1)
    boxes = torch.rand(60, 5, generator=generator) * torch.tensor([9.0, 9, 8, 3, 720])
    got = pairwise_iou_rotated(boxes[:20], boxes[20:])
    for i, a in enumerate(boxes[:20].double().tolist()):
        for j, b in enumerate(boxes[20:].double().tolist()):
            inter = clipped_area(corners(a), corners(b))
            want = inter / (a[2] * a[3] + b[2] * b[3] - inter)
            assert got[i, j].item() == pytest.approx(want, abs=1e-5)


def test_tiny_boxes_far_from_the_origin_keep_their_iou():
    assert iou((1e5, 1e5, 0.5, 0.25, 33.0), (1e5, 1e5, 0.5, 0.25, 33.0)) == pytest.approx(1.0)


def test_no_boxes():
    assert pairwise_iou_rotated(torch.zeros(0, 5), torch.rand(3, 5)).shape == (0, 3)
    assert pairwise_iou_rotated(torch.rand(3, 5), torch.zeros(0, 5)).shape == (3, 0)
