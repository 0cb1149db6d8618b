"""The R-CNN models: input, output, pictures of the training, and errors."""

import pytest
import torch

from d2lite.config import get_cfg
from d2lite.modeling import GeneralizedRCNN, ProposalNetwork, build_model
from d2lite.structures import Boxes, Instances
from d2lite.utils.events import EventStorage


def tiny_config():
    """Faster R-CNN with a ResNet-18 of which res2 and res3 are used."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3"]
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3"]
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 3
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    return cfg


@pytest.fixture(autouse=True, scope="module")
def pyramid_without_p6():
    """The pooled P6 of the stock pyramid is named after res5; these pyramids end earlier."""
    from d2lite.modeling.backbone import fpn

    class Top(fpn.LastLevelMaxPool):
        def __init__(self):
            super().__init__()
            self.in_feature = "p3"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fpn, "LastLevelMaxPool", Top)
        yield


@pytest.fixture
def model() -> GeneralizedRCNN:
    torch.manual_seed(0)
    return build_model(tiny_config())


def image(height: int = 48, width: int = 64) -> torch.Tensor:
    return torch.randint(0, 255, (3, height, width), dtype=torch.uint8)


def target(height: int = 48, width: int = 64) -> Instances:
    boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]]))
    return Instances((height, width), gt_boxes=boxes, gt_classes=torch.tensor([1]))


def test_training_gives_losses_of_images_of_different_sizes(model: GeneralizedRCNN):
    losses = model(
        [
            {"image": image(), "instances": target()},
            {"image": image(40, 50), "instances": target(40, 50)},
        ]
    )
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc"}
    sum(losses.values()).backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)


def test_detections_have_the_wanted_size(model: GeneralizedRCNN):
    with torch.no_grad():
        wanted, own = model.eval()(
            [{"image": image(), "height": 96, "width": 32}, {"image": image()}]
        )
    assert wanted["instances"].image_size == (96, 32)
    assert own["instances"].image_size == (48, 64)
    boxes = wanted["instances"].pred_boxes.tensor
    assert len(boxes) > 0
    assert (boxes[:, 0::2].max(), boxes[:, 1::2].max()) <= (32, 96)


def test_results_without_postprocessing_are_bare_instances(model: GeneralizedRCNN):
    with torch.no_grad():
        (x,) = model.eval().inference([{"image": image(), "height": 9}], do_postprocess=False)
    assert x.image_size == (48, 64)


def test_known_boxes_are_kept(model: GeneralizedRCNN):
    known = Instances(
        (48, 64),
        pred_boxes=Boxes(torch.tensor([[1.0, 2.0, 30.0, 40.0]])),
        pred_classes=torch.tensor([2]),
        scores=torch.tensor([0.5]),
    )
    with torch.no_grad():
        (x,) = model.eval().inference([{"image": image()}], detected_instances=[known])
    assert x["instances"].pred_boxes.tensor.tolist() == [[1, 2, 30, 40]]


def test_state_dict_holds_no_pixel_statistics(model: GeneralizedRCNN):
    assert not [name for name in model.state_dict() if "pixel" in name or "anchor_gen" in name]
    assert model.device == torch.device("cpu")


def test_inputs_that_lack_something_are_named(model: GeneralizedRCNN):
    with pytest.raises(AssertionError, match="'instances'"):
        model([{"image": image()}])
    with pytest.raises(ValueError, match="input 1 of the batch has no 'instances'"):
        model([{"image": image(), "instances": target()}, {"image": image()}])
    with pytest.raises(ValueError, match="'image'"):
        model.eval()([{"file_name": "a.jpg"}])


def test_heads_that_need_no_ground_truth_train_without_instances(model: GeneralizedRCNN):
    class Unsupervised(torch.nn.Module):
        def forward(self, images, features, third, fourth=None):
            assert fourth is None
            return third, {f"loss_{third is None}": features["p2"].mean()}

    model.proposal_generator = model.roi_heads = Unsupervised()
    assert set(model([{"image": image()}])) == {"loss_True"}
    network = ProposalNetwork(
        backbone=model.backbone,
        proposal_generator=Unsupervised(),
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
    )
    assert set(network([{"image": image()}])) == {"loss_True"}


def test_postprocessing_is_not_looked_up_in_subclasses(model: GeneralizedRCNN):
    class WithItsOwn(GeneralizedRCNN):
        @staticmethod
        def _postprocess(detections, sizes):  # called by an `inference` of its own
            raise AssertionError("not for the inherited inference")

    model.__class__ = WithItsOwn
    with torch.no_grad():
        (x,) = model.eval()([{"image": image(), "height": 24, "width": 32}])
    assert x["instances"].image_size == (24, 32)


def test_precomputed_proposals_come_with_the_input():
    cfg = tiny_config()
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "PrecomputedProposals"
    model = build_model(cfg).eval()
    proposals = Instances(
        (48, 64),
        proposal_boxes=Boxes(torch.tensor([[4.0, 4.0, 40.0, 40.0]])),
        objectness_logits=torch.ones(1),
    )
    with torch.no_grad():
        (x,) = model([{"image": image(), "proposals": proposals}])
    assert len(x["instances"]) == 3  # one for each class
    with pytest.raises(ValueError, match="'proposals'"):
        model([{"image": image()}])


def test_pictures_of_the_training_are_put_into_the_storage():
    cfg = tiny_config()
    cfg.VIS_PERIOD = 5
    model = build_model(cfg)
    inputs = [{"image": image(), "instances": target()}]
    with EventStorage(start_iter=9) as storage:
        model(inputs)
        assert storage._vis_data == []
        storage.step()
        model(inputs)
    ((name, picture, iteration),) = storage._vis_data
    assert "Predicted proposals" in name
    assert (picture.shape, iteration) == ((3, 48, 128), 10)


def test_pictures_need_the_order_of_channels(model: GeneralizedRCNN):
    with pytest.raises(ValueError, match="input_format"):
        GeneralizedRCNN(
            backbone=model.backbone,
            proposal_generator=None,
            roi_heads=model.roi_heads,
            pixel_mean=[1.0],
            pixel_std=[1.0],
            vis_period=1,
        )


def test_channels_last_weights_change_neither_names_nor_values(model: GeneralizedRCNN):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    after = model.to(memory_format=torch.channels_last).state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_proposal_network_gives_losses_and_proposals():
    cfg = tiny_config()
    cfg.MODEL.META_ARCHITECTURE = "ProposalNetwork"
    model = build_model(cfg)
    assert isinstance(model, ProposalNetwork)
    losses = model([{"image": image(), "instances": target()}])
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_loc"}
    with torch.no_grad():
        (x,) = model.eval()([{"image": image(), "height": 24, "width": 32}])
    assert x["proposals"].image_size == (24, 32)
    assert x["proposals"].proposal_boxes.tensor.max() <= 32


def test_unknown_architecture_is_a_key_error_with_the_nearest_name():
    cfg = tiny_config()
    cfg.MODEL.META_ARCHITECTURE = "GeneralisedRCNN"
    with pytest.raises(KeyError, match="GeneralizedRCNN"):
        build_model(cfg)
