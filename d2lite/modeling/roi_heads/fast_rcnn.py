"""Output layers of Fast R-CNN (Girshick 2015): class scores, box deltas, losses, inference."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2lite.config import CfgNode, configurable
from d2lite.data.detection_utils import get_fed_loss_cls_weights
from d2lite.layers import ShapeSpec, cat, cross_entropy
from d2lite.modeling.box_regression import Box2BoxTransform, box_loss
from d2lite.modeling.detection_steps import as_boxes, is_foreground, nms_within
from d2lite.structures import Instances
from d2lite.utils.errors import ArgumentError
from d2lite.utils.events import has_event_storage, log_scalar

Predictions = tuple[Tensor, Tensor]  # scores (R, K+1) and deltas (R, K*B) or (R, B)


def fast_rcnn_inference(
    boxes: list[Tensor],
    scores: list[Tensor],
    image_shapes: list[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
    box_dim: int = 4,
) -> tuple[list[Instances], list[Tensor]]:
    """Return the detections of each image: threshold scores, apply NMS per class, keep the best.

    Args:
        boxes: per image, (Ri, K*B), or (Ri, B) if all classes share their boxes.
        scores: per image, (Ri, K+1) probabilities, the last one of the background.
        image_shapes: (H, W) of each image; boxes are clipped to it.
        score_thresh: lower scores are dropped.
        nms_thresh: IoU above which the lower-scoring of two boxes of a class is dropped.
        topk_per_image: detections to keep per image; negative for all.
        box_dim: B: 4, or 5 for rotated boxes.
    Returns:
        Instances with `pred_boxes`, `scores` and `pred_classes`, best first; and the row of the
        proposal of each detection.
    """
    results = [
        fast_rcnn_inference_single_image(
            boxes_i, scores_i, shape_i, score_thresh, nms_thresh, topk_per_image, box_dim
        )
        for boxes_i, scores_i, shape_i in zip(boxes, scores, image_shapes, strict=True)
    ]
    return [detections for detections, _ in results], [rows for _, rows in results]


def fast_rcnn_inference_single_image(
    boxes: Tensor,
    scores: Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
    box_dim: int = 4,
) -> tuple[Instances, Tensor]:
    """`fast_rcnn_inference` for one image. Rows with a non-finite value are dropped."""
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
    candidates = (scores[:, :-1] > score_thresh) & finite[:, None]  # (R, K)
    rows, classes = candidates.nonzero(as_tuple=True)
    scores = scores[rows, classes]
    boxes = boxes.unflatten(1, (-1, box_dim))  # (R, K or 1, B)
    found = as_boxes(boxes[rows, classes if boxes.shape[1] > 1 else 0])
    found.clip(image_shape)

    keep = nms_within(classes, found, scores, nms_thresh)
    if topk_per_image >= 0:
        keep = keep[:topk_per_image]
    detections = Instances(
        image_shape, pred_boxes=found[keep], scores=scores[keep], pred_classes=classes[keep]
    )
    return detections, rows[keep]


class FastRCNNOutputLayers(nn.Module):
    """Two linear layers: scores of K classes and the background, and box deltas."""

    # Class attributes, for subclasses whose constructors don't set them.
    use_sigmoid_ce = False
    use_fed_loss = False

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec | int,
        *,
        box2box_transform: Box2BoxTransform,
        num_classes: int,
        test_score_thresh: float = 0.0,
        test_nms_thresh: float = 0.5,
        test_topk_per_image: int = 100,
        cls_agnostic_bbox_reg: bool = False,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        loss_weight: float | dict[str, float] = 1.0,
        use_fed_loss: bool = False,
        use_sigmoid_ce: bool = False,
        get_fed_loss_cls_weights: Callable[[], Tensor] | None = None,
        fed_loss_num_classes: int = 50,
    ):
        """Describe layers, losses and inference.

        Args:
            input_shape: shape of a box's features, which are flattened; or their number.
            box2box_transform: encodes boxes as deltas to proposals.
            num_classes: K, without the background, which gets index K.
            test_score_thresh: detections with lower scores are dropped.
            test_nms_thresh: IoU above which NMS drops the lower-scoring of two boxes of a class.
            test_topk_per_image: detections to keep per image; negative for all.
            cls_agnostic_bbox_reg: whether all classes share one set of deltas.
            smooth_l1_beta: the smooth L1 loss is quadratic for differences below this.
            box_reg_loss_type: "smooth_l1", "giou", "diou" or "ciou".
            loss_weight: one value, or a dict with "loss_cls" and "loss_box_reg".
            use_fed_loss: train only a subset of the classes in each step (federated loss of
                "Probabilistic two-stage detection"), for datasets whose images are not labeled
                exhaustively.
            use_sigmoid_ce: K independent classifiers instead of a softmax.
            get_fed_loss_cls_weights: returns (K,) sampling weights of the classes.
            fed_loss_num_classes: size of the subset, including the classes that are present.
        Raises:
            ValueError: a federated loss without `use_sigmoid_ce` or without class weights.
        """
        super().__init__()
        if isinstance(input_shape, int):
            input_shape = ShapeSpec(channels=input_shape)
        input_size = input_shape.channels * (input_shape.width or 1) * (input_shape.height or 1)
        self.num_classes = num_classes
        self.box2box_transform = box2box_transform
        self.smooth_l1_beta = smooth_l1_beta
        box_loss(box_reg_loss_type)  # raises now if the name is unknown
        self.box_reg_loss_type = box_reg_loss_type
        self.test_score_thresh = test_score_thresh
        self.test_nms_thresh = test_nms_thresh
        self.test_topk_per_image = test_topk_per_image
        if isinstance(loss_weight, int | float):
            loss_weight = {"loss_cls": loss_weight, "loss_box_reg": loss_weight}
        self.loss_weight = loss_weight
        self.use_sigmoid_ce = use_sigmoid_ce
        self.use_fed_loss = use_fed_loss
        self.fed_loss_num_classes = fed_loss_num_classes
        if use_fed_loss:
            _check_federated(use_sigmoid_ce, fed_loss_num_classes, num_classes)
            if get_fed_loss_cls_weights is None:
                raise ArgumentError("use_fed_loss needs get_fed_loss_cls_weights")
            weights = get_fed_loss_cls_weights()
            self.register_buffer("fed_loss_cls_weights", weights, persistent=False)

        box_dim = len(box2box_transform.weights)
        num_bbox_reg_classes = 1 if cls_agnostic_bbox_reg else num_classes
        self.cls_score = nn.Linear(input_size, num_classes + 1)
        self.bbox_pred = nn.Linear(input_size, num_bbox_reg_classes * box_dim)
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        nn.init.zeros_(self.cls_score.bias)
        nn.init.zeros_(self.bbox_pred.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Read MODEL.ROI_BOX_HEAD, MODEL.ROI_HEADS and the limit of detections."""
        head = cfg.MODEL.ROI_BOX_HEAD
        arguments = {
            "input_shape": input_shape,
            "box2box_transform": Box2BoxTransform(weights=head.BBOX_REG_WEIGHTS),
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "test_score_thresh": cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
            "test_nms_thresh": cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "cls_agnostic_bbox_reg": head.CLS_AGNOSTIC_BBOX_REG,
            "smooth_l1_beta": head.SMOOTH_L1_BETA,
            "box_reg_loss_type": head.BBOX_REG_LOSS_TYPE,
            "loss_weight": {"loss_box_reg": head.BBOX_REG_LOSS_WEIGHT},
            "use_fed_loss": head.USE_FED_LOSS,
            "use_sigmoid_ce": head.USE_SIGMOID_CE,
            "fed_loss_num_classes": head.FED_LOSS_NUM_CLASSES,
        }
        if head.USE_FED_LOSS:
            arguments["get_fed_loss_cls_weights"] = lambda: get_fed_loss_cls_weights(
                dataset_names=cfg.DATASETS.TRAIN, freq_weight_power=head.FED_LOSS_FREQ_WEIGHT_POWER
            )
        return arguments

    def forward(self, x: Tensor) -> Predictions:
        """(R, ...) features of R boxes -> scores (R, K+1) and deltas (R, K*B) or (R, B)."""
        if x.dim() > 2:
            x = x.flatten(1)
        return self.cls_score(x), self.bbox_pred(x)

    def losses(self, predictions: Predictions, proposals: list[Instances]) -> dict[str, Tensor]:
        """Return the weighted classification and box losses: "loss_cls" and "loss_box_reg".

        Args:
            predictions: output of `forward`.
            proposals: with `gt_classes`, `proposal_boxes` and, where the image has objects,
                `gt_boxes`.
        """
        scores, deltas = predictions
        if proposals:
            gt_classes = cat([x.gt_classes for x in proposals])  # (R,)
            proposal_boxes = cat([x.proposal_boxes.tensor for x in proposals])  # (R, B)
            assert not proposal_boxes.requires_grad, (
                "proposals must not carry gradients: detach them before the box head"
            )
            # An image without objects has no gt_boxes. All its proposals are background, whose
            # target boxes are not used, so their own boxes serve as placeholders.
            gt_boxes = cat(
                [(x.gt_boxes if x.has("gt_boxes") else x.proposal_boxes).tensor for x in proposals]
            )
        else:
            gt_classes = scores.new_zeros(0, dtype=torch.int64)
            proposal_boxes = gt_boxes = deltas.new_zeros(0, 4)
        _log_classification_stats(scores, gt_classes)

        classify = self.sigmoid_cross_entropy_loss if self.use_sigmoid_ce else cross_entropy
        losses = {
            "loss_cls": classify(scores, gt_classes),
            "loss_box_reg": self.box_reg_loss(proposal_boxes, gt_boxes, deltas, gt_classes),
        }
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def get_fed_loss_classes(
        self,
        gt_classes: Tensor,
        num_fed_loss_classes: int,
        num_classes: int,
        weight: Tensor | None,
    ) -> Tensor:
        """Return the classes to train in this step: those present, plus random others.

        Args:
            gt_classes: (R,) classes present; `num_classes` is the background.
            num_fed_loss_classes: number of classes to return, unless more are present.
            weight: (num_classes,) sampling weights; None for equal ones.
        Returns:
            (C,) distinct classes, including the background if it is present.
        """
        present = gt_classes.unique()
        missing = num_fed_loss_classes - len(present)
        if missing <= 0:
            return present
        chances = present.new_ones(num_classes + 1, dtype=torch.float32)
        if weight is not None:
            chances[:num_classes] = weight.float()
        chances[num_classes] = 0  # never draw the background
        chances[present] = 0
        return torch.cat([present, chances.multinomial(missing, replacement=False)])

    def sigmoid_cross_entropy_loss(self, pred_class_logits: Tensor, gt_classes: Tensor) -> Tensor:
        """Return the binary cross entropy, summed over classes and averaged over boxes.

        Args:
            pred_class_logits: (R, K+1); the column of the background is not used.
            gt_classes: (R,) in [0, K]; K, the background, is negative for every class.
        """
        if pred_class_logits.numel() == 0:
            return pred_class_logits.sum() * 0.0
        num_classes = pred_class_logits.shape[1] - 1
        target = F.one_hot(gt_classes, num_classes + 1)[:, :num_classes]  # (R, K)
        loss = F.binary_cross_entropy_with_logits(
            pred_class_logits[:, :num_classes], target.to(pred_class_logits.dtype), reduction="none"
        )
        if self.use_fed_loss:
            trained = self.get_fed_loss_classes(
                gt_classes, self.fed_loss_num_classes, num_classes, self.fed_loss_cls_weights
            )
            mask = loss.new_zeros(num_classes + 1)
            mask[trained] = 1
            loss = loss * mask[:num_classes]
        return loss.sum() / len(gt_classes)

    def box_reg_loss(
        self, proposal_boxes: Tensor, gt_boxes: Tensor, pred_deltas: Tensor, gt_classes: Tensor
    ) -> Tensor:
        """Return the box loss of the foreground, divided by the number of all sampled proposals.

        With that divisor, every foreground box has the same weight, no matter how many there are
        in its image.

        Args:
            proposal_boxes, gt_boxes: (R, B).
            pred_deltas: (R, K*B) or (R, B).
            gt_classes: (R,) in [0, K]; K is the background.
        """
        box_dim = proposal_boxes.shape[1]
        foreground = is_foreground(gt_classes, self.num_classes).nonzero()[:, 0]
        if pred_deltas.shape[1] == box_dim:
            deltas = pred_deltas[foreground]
        else:
            by_class = pred_deltas.view(-1, self.num_classes, box_dim)
            deltas = by_class[foreground, gt_classes[foreground]]
        # Looked up now: subclasses set the type and beta after this class's constructor.
        loss = box_loss(self.box_reg_loss_type, self.smooth_l1_beta)(
            self.box2box_transform, proposal_boxes[foreground], deltas, gt_boxes[foreground]
        )
        return loss / max(gt_classes.numel(), 1.0)

    def inference(
        self, predictions: Predictions, proposals: list[Instances]
    ) -> tuple[list[Instances], list[Tensor]]:
        """Return the detections of each image; see `fast_rcnn_inference`.

        Args:
            predictions: output of `forward`.
            proposals: with `proposal_boxes`.
        """
        return fast_rcnn_inference(
            self.predict_boxes(predictions, proposals),
            self.predict_probs(predictions, proposals),
            [x.image_size for x in proposals],
            self.test_score_thresh,
            self.test_nms_thresh,
            self.test_topk_per_image,
            len(self.box2box_transform.weights),
        )

    def predict_boxes_for_gt_classes(
        self, predictions: Predictions, proposals: list[Instances]
    ) -> list[Tensor]:
        """Return for each image (Ri, B): the boxes predicted for the true class.

        Background proposals get the box of an arbitrary class.
        """
        if not proposals:
            return []
        _, deltas = predictions
        source = cat([x.proposal_boxes.tensor for x in proposals])
        box_dim = source.shape[1]
        boxes = self.box2box_transform.apply_deltas(deltas, source)
        num_reg_classes = boxes.shape[1] // box_dim
        if num_reg_classes > 1:
            gt_classes = cat([x.gt_classes for x in proposals]).clamp(0, num_reg_classes - 1)
            rows = torch.arange(len(boxes), device=boxes.device)
            boxes = boxes.view(-1, num_reg_classes, box_dim)[rows, gt_classes]
        return list(boxes.split([len(x) for x in proposals]))

    def predict_boxes(self, predictions: Predictions, proposals: list[Instances]) -> list[Tensor]:
        """Return for each image (Ri, K*B) or (Ri, B) decoded boxes, not clipped."""
        if not proposals:
            return []
        _, deltas = predictions
        source = cat([x.proposal_boxes.tensor for x in proposals])
        boxes = self.box2box_transform.apply_deltas(deltas, source)
        return list(boxes.split([len(x) for x in proposals]))

    def predict_probs(self, predictions: Predictions, proposals: list[Instances]) -> list[Tensor]:
        """Return for each image (Ri, K+1) probabilities, the last one of the background."""
        scores, _ = predictions
        probabilities = scores.sigmoid() if self.use_sigmoid_ce else scores.softmax(dim=-1)
        return list(probabilities.split([len(x) for x in proposals]))


def _check_federated(use_sigmoid_ce: bool, num_trained: int, num_classes: int) -> None:
    if not use_sigmoid_ce:
        raise ArgumentError(
            "the federated loss needs independent classes: with MODEL.ROI_BOX_HEAD.USE_FED_LOSS "
            "set MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE True"
        )
    if num_trained > num_classes:
        raise ArgumentError(
            f"MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES is {num_trained}; it must not exceed "
            f"MODEL.ROI_HEADS.NUM_CLASSES, which is {num_classes}"
        )


@torch.no_grad()
def _log_classification_stats(
    pred_logits: Tensor, gt_classes: Tensor, prefix: str = "fast_rcnn"
) -> None:
    """Log how often the class with the highest score is correct.

    Args:
        pred_logits: (R, K+1), the last one of the background.
        gt_classes: (R,) in [0, K].
    """
    if gt_classes.numel() == 0 or not has_event_storage():
        return
    predicted = pred_logits.argmax(dim=1)
    background = pred_logits.shape[1] - 1
    foreground = is_foreground(gt_classes, background)
    correct = predicted == gt_classes
    counts = [
        correct.sum(),
        foreground.sum(),
        (foreground & correct).sum(),
        (foreground & (predicted == background)).sum(),
    ]
    # One transfer instead of four, since each waits for the GPU.
    num_correct, num_fg, num_fg_correct, num_missed = torch.stack(counts).tolist()
    log_scalar(f"{prefix}/cls_accuracy", num_correct / gt_classes.numel())
    if num_fg > 0:
        log_scalar(f"{prefix}/fg_cls_accuracy", num_fg_correct / num_fg)
        log_scalar(f"{prefix}/false_negative", num_missed / num_fg)
