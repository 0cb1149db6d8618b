"""Anchors that suit the boxes of a dataset, for RPN, SSD and YOLO.

Boxes are measured as each detector sees them: for RPN (and RetinaNet), images are resized as
INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST say; for SSD, they are stretched to a square; for YOLO, they
are scaled to fit into a square. The fit of an anchor is its IoU with a box of the same center,
which is the best that a grid of anchors can reach.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from d2lite.config import CfgNode
from d2lite.data.image_io import read_image_size
from d2lite.structures import BoxMode

FORMATS = ("rpn", "ssd", "yolo")
MAX_ROUNDS = 100
RESTARTS = 4
MAX_DRAWN_BOXES = 3000


@dataclass
class Fit:
    """Anchors in one format, and the boxes that they were fitted to, as that detector sees them."""

    title: str
    text: str
    """the settings, ready for a config"""
    boxes: Tensor
    """(R, 2) widths and heights in pixels"""
    anchors: Tensor
    """(A, 2)"""

    def best_iou(self) -> Tensor:
        """Return (R,): the IoU of each box with the anchor that fits it best."""
        return iou_of_sizes(self.boxes, self.anchors).amax(dim=1)


# -- shapes -------------------------------------------------------------------------------------


def iou_of_sizes(a: Tensor, b: Tensor) -> Tensor:
    """Return the (R, A) IoU of boxes with (R, 2) and (A, 2) widths and heights and one center."""
    overlap = torch.minimum(a[:, None], b[None]).prod(dim=2)
    return overlap / (a.prod(dim=1)[:, None] + b.prod(dim=1)[None] - overlap)


def kmeans_by_iou(sizes: Tensor, k: int, seed: int = 0) -> Tensor:
    """Fit anchors by k-means with 1 - IoU as the distance (YOLO9000, sec. 2).

    Args:
        sizes: (R, 2) widths and heights.
        k: number of anchors.
    Returns:
        (k, 2) widths and heights, sorted by area: those with the highest mean IoU of several
        starts and all their rounds.
    Raises:
        ValueError: there are fewer different sizes than anchors.
    """
    different = len(sizes.unique(dim=0))
    if different < k:
        raise ValueError(
            f"{k} anchors are wanted, but there are only {different} sizes of boxes; use a dataset "
            "with more, or ask for fewer anchors (--num, --levels)"
        )
    generator = torch.Generator().manual_seed(seed)
    found = [_lloyd(sizes, _spread_start(sizes, k, generator)) for _ in range(RESTARTS)]
    best = max(found, key=lambda anchors: mean_iou(sizes, anchors))
    return best[best.prod(dim=1).argsort()]


def _lloyd(sizes: Tensor, anchors: Tensor) -> Tensor:
    """Run k-means from (k, 2) anchors, and return the best anchors of all rounds."""
    best, best_iou, assigned = anchors, -1.0, None
    for _ in range(MAX_ROUNDS):
        iou, nearest = iou_of_sizes(sizes, anchors).max(dim=1)
        if iou.mean() > best_iou:
            best, best_iou = anchors, iou.mean()
        if assigned is not None and torch.equal(nearest, assigned):
            break
        assigned = nearest
        anchors = mean_by_group(sizes, nearest, anchors)
    return best


def mean_by_group(values: Tensor, group: Tensor, otherwise: Tensor) -> Tensor:
    """Return the (G, D) means of (R, D) values by group, and `otherwise` for empty groups."""
    count = torch.bincount(group, minlength=len(otherwise)).to(values)[:, None]
    total = torch.zeros_like(otherwise).index_add_(0, group, values)
    return torch.where(count > 0, total / count.clamp(min=1), otherwise)


def _spread_start(sizes: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Draw k boxes one after another, preferring those that earlier ones fit badly (k-means++)."""
    first = torch.randint(len(sizes), (1,), generator=generator)
    chosen = sizes[first]
    while len(chosen) < k:
        distance = 1 - iou_of_sizes(sizes, chosen).amax(dim=1)
        following = torch.multinomial(distance.clamp(min=1e-12), 1, generator=generator)
        chosen = torch.cat([chosen, sizes[following]])
    return chosen


def fit_grid(sizes: Tensor, num_sizes: int, num_ratios: int) -> tuple[Tensor, Tensor]:
    """Find sides and aspect ratios (height / width) whose combinations fit the boxes.

    This is k-means in which an anchor is a side combined with a ratio. In each round, every side
    becomes the geometric mean side of the boxes nearest to its anchors, and every ratio likewise.

    Args:
        sizes: (R, 2) widths and heights.

    Returns:
        (num_sizes,) sides, which are square roots of areas, and (num_ratios,) ratios, both
        ascending.
    """
    log_side = sizes.prod(dim=1).log() / 2
    log_ratio = (sizes[:, 1] / sizes[:, 0]).log()
    best = (_quantiles(log_side, num_sizes), _quantiles(log_ratio, num_ratios))
    sides, ratios, best_iou = *best, -1.0
    for _ in range(MAX_ROUNDS):
        iou, nearest = iou_of_sizes(sizes, grid_sizes(sides.exp(), ratios.exp())).max(dim=1)
        if iou.mean() <= best_iou:
            break
        best, best_iou = (sides, ratios), iou.mean()
        side_index, ratio_index = nearest // num_ratios, nearest % num_ratios
        sides = mean_by_group(log_side[:, None], side_index, sides[:, None])[:, 0]
        ratios = mean_by_group(log_ratio[:, None], ratio_index, ratios[:, None])[:, 0]
    sides, ratios = best
    return sides.exp().sort().values, ratios.exp().sort().values


def grid_sizes(sides: Tensor, ratios: Tensor) -> Tensor:
    """Return the (S * Q, 2) widths and heights of S sides with Q ratios (height / width) each."""
    root = ratios.sqrt()
    return torch.stack((sides[:, None] / root, sides[:, None] * root), dim=2).flatten(0, 1)


def _quantiles(values: Tensor, count: int) -> Tensor:
    """Return the middles of `count` parts that contain equally many values."""
    return values.quantile((torch.arange(count) + 0.5) / count)


def ssd_sizes(scales: Sequence[float], ratios: Sequence[Sequence[float]], side: float) -> Tensor:
    """Return (A, 2) default boxes of SSD (Liu et al. 2016, sec. 2.2), in pixels.

    Args:
        scales: one per level and one more, as shares of the side.
        ratios: aspect ratios of each level besides 1; each is also used inverted.
        side: side of the square image, in pixels.
    """
    shapes = []
    for scale, following, more in zip(scales[:-1], scales[1:], ratios, strict=True):
        between = (scale * following) ** 0.5
        shapes += [(scale, scale), (between, between)]
        for ratio in more:
            root = ratio**0.5
            shapes += [(scale * root, scale / root), (scale / root, scale * root)]
    return torch.tensor(shapes).clamp(max=1) * side


def mean_iou(sizes: Tensor, anchors: Tensor) -> float:
    """Return the mean over boxes of the IoU with the best anchor."""
    return iou_of_sizes(sizes, anchors).amax(dim=1).mean().item()


# -- boxes as detectors see them -----------------------------------------------------------------


def read_sizes(records: Sequence[dict]) -> tuple[Tensor, Tensor]:
    """Return widths and heights of all boxes except crowds, and of their images, (R, 2) each.

    Rotated boxes count as if they were upright.

    Raises:
        ValueError: there is no box.
    """
    boxes, images = [], []
    for record in records:
        image = [record["width"], record["height"]] if "width" in record else None
        for annotation in record.get("annotations", ()):
            box, mode = annotation["bbox"], annotation["bbox_mode"]
            if mode == BoxMode.XYWHA_ABS:
                width, height = box[2:4]
            else:
                x0, y0, x1, y1 = BoxMode.convert(list(box), mode, BoxMode.XYXY_ABS)
                width, height = x1 - x0, y1 - y0
            if annotation.get("iscrowd", 0) or min(width, height) <= 0:
                continue
            if image is None:
                image = list(read_image_size(record["file_name"]))[::-1]
            boxes.append([width, height])
            images.append(image)
    if not boxes:
        raise ValueError(f"none of the {len(records)} images has a box")
    return torch.tensor(boxes, dtype=torch.float32), torch.tensor(images, dtype=torch.float32)


def resized_by_short_side(boxes: Tensor, images: Tensor, short: int, longest: int) -> Tensor:
    """Return the sizes of boxes after `ResizeShortestEdge`; with a `short` of 0, unchanged."""
    if short == 0:
        return boxes
    scale = torch.minimum(short / images.amin(dim=1), longest / images.amax(dim=1))
    return boxes * scale[:, None]


# -- formats ------------------------------------------------------------------------------------


def fit_rpn(boxes: Tensor, images: Tensor, args: argparse.Namespace, cfg: CfgNode) -> Fit:
    """Fit one side for each level, and ratios shared by all levels."""
    short, longest = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    boxes = resized_by_short_side(boxes, images, short, longest)
    sides, ratios = fit_grid(boxes, args.levels, args.ratios)
    sides, ratios = [round(v, 1) for v in sides.tolist()], [round(v, 2) for v in ratios.tolist()]
    text = (
        "MODEL:\n  ANCHOR_GENERATOR:\n"
        f"    SIZES: {[[side] for side in sides]}\n    ASPECT_RATIOS: {[ratios]}"
    )
    seen = f"short side {short}, at most {longest}" if short else "images as they are"
    anchors = grid_sizes(torch.tensor(sides), torch.tensor(ratios))
    return Fit(f"RPN ({seen})", text, boxes, anchors)


def fit_ssd(boxes: Tensor, images: Tensor, args: argparse.Namespace, cfg: CfgNode) -> Fit:
    """Fit one scale for each level and one more, and ratios besides 1 shared by all levels."""
    side, levels = args.ssd_size, args.ssd_levels
    boxes = boxes * (side / images)
    # Turned so that no box is higher than wide: SSD uses each ratio inverted, too.
    wide = torch.stack((boxes.amin(dim=1), boxes.amax(dim=1)), dim=1)
    sides, ratios = fit_grid(wide, levels, args.ssd_ratios + 1)
    scales = [round(v / side, 3) for v in sides.tolist()]
    grown = scales[-1] ** 2 / scales[-2] if levels > 1 else scales[-1] * 1.5
    scales.append(round(min(grown, 1.05), 3))
    # The ratio nearest to 1 is covered by the square boxes.
    shared = [round(v, 2) for v in ratios.tolist()[1:]]
    per_level = [shared] * levels
    text = (
        f"MODEL:\n  SSD:\n    IMAGE_SIZE: {side}\n    SCALES: {scales}\n"
        f"    ASPECT_RATIOS: {per_level}"
    )
    return Fit(f"SSD ({side} x {side})", text, boxes, ssd_sizes(scales, per_level, side))


def fit_yolo(boxes: Tensor, images: Tensor, args: argparse.Namespace, cfg: CfgNode) -> Fit:
    """Fit widths and heights, from small to large; a third of them for each of three maps."""
    side = args.yolo_size
    boxes = boxes * (side / images.amax(dim=1, keepdim=True))
    anchors = kmeans_by_iou(boxes, args.num, args.seed).round().clamp(min=1)
    pairs = [[int(v) for v in pair] for pair in anchors.tolist()]
    darknet = ",  ".join(f"{w},{h}" for w, h in pairs)
    text = f"anchors = {darknet}\nas a list: {pairs}"
    return Fit(f"YOLO ({side} x {side}, letterbox)", text, boxes, anchors)


FITTERS: dict[str, Callable[..., Fit]] = {"rpn": fit_rpn, "ssd": fit_ssd, "yolo": fit_yolo}


def configured_rpn(cfg: CfgNode) -> Tensor:
    """Return the (A, 2) anchors of the config, of all levels."""
    settings = cfg.MODEL.ANCHOR_GENERATOR
    levels = max(len(settings.SIZES), len(settings.ASPECT_RATIOS))
    sizes, ratios = (
        v * levels if len(v) == 1 else v for v in (settings.SIZES, settings.ASPECT_RATIOS)
    )
    per_level = zip(sizes, ratios, strict=True)
    return torch.cat(
        [
            grid_sizes(*(torch.tensor(values, dtype=torch.float32) for values in level))
            for level in per_level
        ]
    )


# -- output -------------------------------------------------------------------------------------


def quality(iou: Tensor, reach: float) -> str:
    """Describe the mean IoU and the share of boxes whose IoU is at least `reach`."""
    share = 100 * (iou >= reach).float().mean().item()
    return f"mean IoU {iou.mean():.3f}, {share:.1f}% of boxes reached at IoU {reach}"


def draw(fits: Sequence[Fit], path: str) -> None:
    """Draw boxes and anchors (above), and the share of boxes that reach each IoU (below)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator

    figure, axes = plt.subplots(2, len(fits), figsize=(5 * len(fits), 9), squeeze=False)
    for (above, below), fit in zip(axes.T, fits, strict=True):
        step = -(-len(fit.boxes) // MAX_DRAWN_BOXES)
        above.scatter(*fit.boxes[::step].T.tolist(), s=4, alpha=0.3, label="boxes")
        above.scatter(*fit.anchors.T.tolist(), marker="x", color="crimson", label="anchors")
        above.set(title=fit.title, xlabel="width, pixels", ylabel="height, pixels")
        above.set(xscale="log", yscale="log", aspect="equal")
        for axis in (above.xaxis, above.yaxis):  # 10, 20, 50, 100, ...
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:.0f}")
            axis.set_minor_formatter("")
        above.legend()
        iou = fit.best_iou().sort(descending=True).values
        below.plot(iou.tolist(), (100 * (torch.arange(len(iou)) + 1) / len(iou)).tolist())
        below.set(xlabel="IoU with the best anchor, at least", ylabel="boxes, %")
        below.set(xlim=(0, 1), ylim=(0, 101))
        below.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)
