"""Uniform matching against loops over objects and anchors; the box coder by hand."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from d2lite.projects.yolof import ClampedBox2BoxTransform, uniform_match


def random_boxes(count: int, generator: torch.Generator) -> torch.Tensor:
    corner = torch.rand(count, 2, generator=generator) * 60
    return torch.cat((corner, corner + 6 + torch.rand(count, 2, generator=generator) * 40), dim=1)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """L1 between (center x, center y, width, height) of two boxes."""
    (ax, ay, bx, by), (cx, cy, dx, dy) = a.tolist(), b.tolist()
    return (
        abs((ax + bx) / 2 - (cx + dx) / 2)
        + abs((ay + by) / 2 - (cy + dy) / 2)
        + abs((bx - ax) - (dx - cx))
        + abs((by - ay) - (dy - cy))
    )


def match_by_loops(anchors, pred_boxes, gt_boxes, topk, low, high):
    """Labels, objects of foreground anchors, and the multiset of trained pairs."""
    claims, pairs = {}, []
    for m, gt in enumerate(gt_boxes):
        for boxes in (pred_boxes, anchors):
            order = sorted(range(len(boxes)), key=lambda r: distance(boxes[r], gt))
            for r in order[:topk]:
                iou = float(box_iou(anchors[r : r + 1], gt[None]))
                claims.setdefault(r, []).append((iou, m))
                if iou >= low:
                    pairs.append((r, m))
    labels, objects = [], {}
    for r in range(len(anchors)):
        if r in claims:
            iou, m = max(claims[r])
            labels.append(1 if iou >= low else -1)
            if iou >= low:
                objects[r] = m
        else:
            found = len(gt_boxes) > 0 and float(box_iou(pred_boxes[r : r + 1], gt_boxes).max())
            labels.append(-1 if found > high else 0)
    return labels, objects, sorted(pairs)


@pytest.mark.parametrize("topk, low, high", [(4, 0.15, 0.7), (2, 0.3, 0.2), (1, 0.5, 0.5)])
@pytest.mark.parametrize("num_gt", [0, 1, 6])
def test_matching_equals_loops(num_gt, topk, low, high):
    generator = torch.Generator().manual_seed(num_gt + 10 * topk)
    anchors, gt_boxes = random_boxes(50, generator), random_boxes(num_gt, generator)
    pred_boxes = anchors + torch.randn(50, 4, generator=generator)
    match = uniform_match(
        anchors,
        pred_boxes,
        gt_boxes,
        topk=topk,
        pos_ignore_threshold=low,
        neg_ignore_threshold=high,
    )
    labels, objects, pairs = match_by_loops(anchors, pred_boxes, gt_boxes, topk, low, high)
    assert match.label.tolist() == labels
    assert {r: match.gt_index[r].item() for r in objects} == objects
    found = zip(match.pair_anchor.tolist(), match.pair_gt.tolist(), strict=True)
    assert sorted(found) == pairs
    if num_gt == 6:
        assert {-1, 0, 1} == set(labels) or topk == 1


def test_large_and_small_objects_get_equally_many_anchors():
    """Where IoU thresholds would give the large one nearly all (sec. 4.2)."""
    grid = torch.arange(0.0, 160, 16)
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    centers = torch.stack((x, y), dim=2).reshape(-1, 1, 2)
    half = torch.tensor([8.0, 16, 32, 64])[None, :, None]
    anchors = torch.cat((centers - half, centers + half), dim=2).reshape(-1, 4)
    gt_boxes = torch.tensor([[10.0, 10, 140, 150], [100.0, 20, 120, 38]])
    match = uniform_match(anchors, anchors, gt_boxes, topk=3, pos_ignore_threshold=0.0)
    assert match.pair_gt.tolist().count(0) == match.pair_gt.tolist().count(1) == 6
    assert (match.label == 1).sum() == 6


def test_fewer_anchors_than_wanted():
    box = torch.tensor([[0.0, 0, 10, 10]])
    match = uniform_match(box, box, box, topk=4)
    assert match.label.tolist() == [1] and match.pair_anchor.tolist() == [0, 0]


def test_predictions_that_found_an_object_are_no_background():
    anchors = torch.tensor([[0.0, 0, 10, 10], [40.0, 0, 50, 10], [80.0, 0, 90, 10]])
    gt_boxes = anchors[:1]
    pred_boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 9], [80.0, 0, 90, 10]])
    match = uniform_match(anchors, pred_boxes, gt_boxes, topk=1)
    assert match.label.tolist() == [1, -1, 0]


def test_centers_stay_near_their_anchors():
    coder = ClampedBox2BoxTransform((1.0, 1.0, 1.0, 1.0), ctr_clamp=32)
    anchors = torch.tensor([[0.0, 0, 100, 100]] * 3)
    deltas = torch.tensor([[0.2, -0.3, 0, 0], [0.5, -0.5, 0, 0], [3.0, 0, np.log(2), 0]])
    expected = [[20, -30, 120, 70], [32, -32, 132, 68], [-18, 0, 182, 100]]
    found = coder.apply_deltas(deltas, anchors)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


def test_weights_do_not_change_the_farthest_shift():
    coder = ClampedBox2BoxTransform((10.0, 10.0, 5.0, 5.0), ctr_clamp=8)
    anchors = torch.tensor([[0.0, 0, 20, 40]])
    found = coder.apply_deltas(torch.tensor([[100.0, -100, 0, 0]]), anchors)
    assert found.tolist() == [[8, -8, 28, 32]]
    near = torch.tensor([[3.0, 5, 30, 44]])
    decoded = coder.apply_deltas(coder.get_deltas(anchors, near), anchors)
    torch.testing.assert_close(decoded, near)
