import unittest

import pytest
import torch

from d2lite.config import LazyCall
from d2lite.structures import Boxes, Instances
from d2lite.utils.testing import (
    assert_instances_allclose,
    get_sample_coco_image,
    has_dynamic_axes,
    random_boxes,
    reload_lazy_config,
    skipIfUnsupportedMinOpsetVersion,
    skipIfUnsupportedMinTorchVersion,
)


def test_random_boxes_have_sides_and_stay_inside():
    boxes = random_boxes(500, max_coord=10)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert boxes.shape == (500, 4)
    assert sides.min() >= 1 - 1e-5 and boxes.min() >= 0 and boxes.max() <= 10


def test_sample_image_is_the_same_in_both_forms():
    array, tensor = get_sample_coco_image(tensor=False), get_sample_coco_image()
    assert array.shape == (480, 640, 3) and tensor.dtype == torch.uint8
    assert torch.equal(tensor, torch.from_numpy(array).permute(2, 0, 1))
    assert array.std() > 30  # something is on it


def make_instances(score=0.5, size=(10, 20)):
    return Instances(
        size,
        pred_boxes=Boxes(torch.tensor([[0.0, 0.0, 5.0, 5.0]])),
        scores=torch.tensor([score]),
        pred_classes=torch.tensor([3]),
    )


def test_instances_close_to_each_other_pass():
    assert_instances_allclose(make_instances(0.5), make_instances(0.5 + 1e-7))
    assert_instances_allclose(make_instances(), make_instances(), size_as_tensor=True)


@pytest.mark.parametrize(
    "other, message",
    [
        (make_instances(0.6), "here: scores differs"),
        (make_instances(size=(10, 21)), "here: image_size"),
        (make_instances()[torch.zeros(1, dtype=torch.bool)], "here: .* differs"),
    ],
)
def test_instances_that_differ_fail(other, message):
    with pytest.raises(AssertionError, match=message):
        assert_instances_allclose(make_instances(), other, msg="here")


def test_instances_with_other_fields_fail():
    other = make_instances()
    other.remove("scores")
    with pytest.raises(AssertionError, match="fields are"):
        assert_instances_allclose(make_instances(), other)


def test_lazy_config_survives_a_file():
    cfg = LazyCall(torch.nn.Linear)(in_features=3, out_features=4)
    again = reload_lazy_config(cfg)
    assert again == {"_target_": "torch.nn.Linear", "in_features": 3, "out_features": 4}


def test_decorators_skip_what_is_too_new():
    class Case(unittest.TestCase):
        opset_version = 11

        @skipIfUnsupportedMinTorchVersion("99.0")
        def test_new_torch(self):
            raise AssertionError("was not skipped")

        @skipIfUnsupportedMinOpsetVersion(12)
        def test_new_opset(self):
            raise AssertionError("was not skipped")

        @skipIfUnsupportedMinOpsetVersion(11)
        def test_old_opset(self):
            self.ran = True

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    assert result.testsRun == 3 and len(result.skipped) == 2
    assert not result.failures and not result.errors


def test_dynamic_axes_are_seen():
    onnx = pytest.importorskip("onnx")

    def model(shape):
        info = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
        return onnx.helper.make_model(onnx.helper.make_graph([], "g", [info], []))

    assert has_dynamic_axes(model([1, "height"]))
    assert not has_dynamic_axes(model([1, 3]))
