import pytest
import torch

from d2lite.config import get_cfg
from d2lite.layers import ShapeSpec
from d2lite.modeling import SemanticSegmentor, build_model, build_sem_seg_head
from d2lite.modeling.meta_arch.semantic_seg import SemSegFPNHead
from tests.modeling.tiny import TinyBackbone, image


def config():
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "SemanticSegmentor"
    cfg.MODEL.BACKBONE.NAME = "build_tiny_backbone"
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["p3", "p4"]
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 5
    cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = 32
    return cfg


@pytest.fixture
def model() -> SemanticSegmentor:
    torch.manual_seed(0)
    return build_model(config())


def head(**changes) -> SemSegFPNHead:
    shapes = {"b": ShapeSpec(channels=8, stride=16), "a": ShapeSpec(channels=4, stride=4)}
    settings = {"num_classes": 3, "conv_dims": 6, "common_stride": 4}
    return SemSegFPNHead(shapes, **{**settings, **changes})


def test_training_gives_one_loss_of_images_of_different_sizes(model):
    losses = model(
        [
            {"image": image(), "sem_seg": torch.randint(0, 5, (48, 64))},
            {"image": image(32, 40), "sem_seg": torch.randint(0, 5, (32, 40))},
        ]
    )
    assert set(losses) == {"loss_sem_seg"}
    losses["loss_sem_seg"].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_scores_have_the_wanted_size(model):
    with torch.no_grad():
        wanted, own = model.eval()(
            [{"image": image(), "height": 9, "width": 7}, {"image": image()}]
        )
    assert wanted["sem_seg"].shape == (5, 9, 7) and own["sem_seg"].shape == (5, 48, 64)


def test_training_without_labels_names_what_is_missing(model):
    with pytest.raises(AssertionError, match="'sem_seg'"):
        model([{"image": image()}])
    with pytest.raises(ValueError, match="input 1 of the batch has no 'sem_seg'"):
        model([{"image": image(), "sem_seg": torch.zeros(48, 64).long()}, {"image": image()}])


def test_a_head_gets_the_labels_that_there_are(model):
    seen = []

    class Head(torch.nn.Module):
        ignore_value = 255

        def forward(self, features, targets=None):
            seen.append(targets)
            return features["p4"], {"loss": features["p4"].mean()}

    model.sem_seg_head = Head()
    assert set(model([{"image": image()}])) == {"loss"}
    with torch.no_grad():
        model.eval()([{"image": image(), "sem_seg": torch.zeros(48, 64).long()}])
    assert seen[0] is None and seen[1].shape == (1, 48, 64)


def test_branches_end_at_the_common_stride():
    layers = head()
    assert layers.in_features == ["a", "b"]
    features = {"a": torch.randn(1, 4, 8, 12), "b": torch.randn(1, 8, 2, 3)}
    assert layers.layers(features).shape == (1, 3, 8, 12)
    assert layers.eval()(features)[0].shape == (1, 3, 32, 48)
    # One convolution where the stride fits; else one for each doubling, and the doubling.
    assert [len(layers.a), len(layers.b)] == [1, 4]


def test_the_loss_leaves_out_ignored_pixels():
    layers = head(ignore_value=255, loss_weight=2.0)
    targets = torch.full((1, 4, 4), 255)
    targets[0, 0, 0] = 1
    logits = torch.zeros(1, 3, 1, 1)  # all classes alike: ln 3
    assert layers.losses(logits, targets)["loss_sem_seg"].item() == pytest.approx(2 * 1.0986123)


def test_without_a_labeled_pixel_the_loss_is_zero():
    logits = torch.zeros(1, 3, 1, 1, requires_grad=True)
    loss = head().losses(logits, torch.full((1, 4, 4), -1))["loss_sem_seg"]
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="at least one feature"):
        SemSegFPNHead({}, num_classes=1, conv_dims=1, common_stride=4)
    cfg = config()
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["p2"]
    with pytest.raises(ValueError, match=r"SEM_SEG_HEAD.IN_FEATURES asks for feature 'p2'"):
        build_sem_seg_head(cfg, TinyBackbone().output_shape())
