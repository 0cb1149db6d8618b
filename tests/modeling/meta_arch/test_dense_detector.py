import pytest
import torch
from torch import nn

from d2lite.modeling.meta_arch.dense_detector import DenseDetector
from tests.modeling.tiny import PIXELS, TinyBackbone, image, target


def test_features_are_ordered_by_stride_unless_named():
    assert DenseDetector(TinyBackbone(), nn.Identity(), **PIXELS).head_in_features == ["p3", "p4"]
    named = DenseDetector(TinyBackbone(), nn.Identity(), ["p4"], **PIXELS)
    assert named.head_in_features == ["p4"]
    with pytest.raises(ValueError, match="head_in_features asks for feature 'p5'"):
        DenseDetector(TinyBackbone(), nn.Identity(), ["p5"], **PIXELS)


def test_subclasses_must_define_both_ways():
    model = DenseDetector(TinyBackbone(), nn.Identity(), **PIXELS)
    with pytest.raises(NotImplementedError, match="define forward_training"):
        model([{"image": image(), "instances": target()}])
    with pytest.raises(NotImplementedError, match="define forward_inference"):
        model.eval()([{"image": image()}])
    with pytest.raises(ValueError, match="'instances'"):
        model.train()([{"image": image()}])


def test_the_loss_normalizer_is_a_running_mean_outside_of_the_weights():
    model = DenseDetector(TinyBackbone(), nn.Identity(), **PIXELS)
    model.loss_normalizer = torch.tensor(100.0)
    assert model._ema_update("loss_normalizer", torch.tensor(20), 0).item() == pytest.approx(92)
    assert model._ema_update("loss_normalizer", torch.tensor(1), 0).item() == pytest.approx(82.9)
    assert "loss_normalizer" not in {**model.state_dict(), **dict(model.named_buffers())}


def test_a_training_that_goes_on_keeps_the_normalizer():
    first, second = (DenseDetector(TinyBackbone(), nn.Identity(), **PIXELS) for _ in range(2))
    first._ema_update("loss_normalizer", torch.tensor(11), 0)  # starts at 1
    second.load_training_state(first.training_state())
    updated = second._ema_update("loss_normalizer", torch.tensor(2), 0)
    assert updated.item() == pytest.approx(2 * 0.9 + 0.2)
