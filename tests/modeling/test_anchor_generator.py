import pytest
import torch

from d2lite.config import get_cfg
from d2lite.layers import ShapeSpec
from d2lite.modeling.anchor_generator import (
    ANCHOR_GENERATOR_REGISTRY,
    BufferList,
    DefaultAnchorGenerator,
    RotatedAnchorGenerator,
    build_anchor_generator,
)
from tests.golden import case_names, load_case


def _features(grids):
    return [torch.zeros(1, 1, *grid) for grid in grids]


@pytest.mark.parametrize("name", case_names("anchors.", runner="anchors"))
def test_anchors_equal_detectron2(name):
    case = load_case(name)
    params = dict(case.params)
    features = _features(params.pop("grids"))
    kind = RotatedAnchorGenerator if "angles" in params else DefaultAnchorGenerator
    generator = kind(**params)
    assert generator.num_cell_anchors == case.outputs["num_cell_anchors"]
    assert generator.box_dim == case.outputs["box_dim"]
    for _ in range(2):  # computed, then remembered
        for level, anchors in enumerate(generator(features)):
            case.check(f"level{level}", anchors.tensor)


def test_a_generator_from_a_config_equals_detectron2():
    case = load_case("anchors.from_cfg")
    cfg = get_cfg()
    cfg.merge_from_list([item for pair in case.params["cfg"].items() for item in pair])
    generator = build_anchor_generator(cfg, [ShapeSpec(stride=s) for s in case.params["strides"]])
    for level, anchors in enumerate(generator(_features(case.params["grids"]))):
        case.check(f"level{level}", anchors.tensor)


def test_a_rotated_generator_from_a_config_has_its_angles():
    cfg = get_cfg()
    cfg.MODEL.ANCHOR_GENERATOR.NAME = "RotatedAnchorGenerator"
    generator = build_anchor_generator(cfg, [ShapeSpec(stride=16)])
    per_cell = [
        len(cfg.MODEL.ANCHOR_GENERATOR[key][0]) for key in ("SIZES", "ASPECT_RATIOS", "ANGLES")
    ]
    assert generator.num_anchors == [per_cell[0] * per_cell[1] * per_cell[2]]
    assert generator.num_cell_anchors == generator.num_anchors and generator.box_dim == 5


def test_cell_anchors_by_hand():
    generator = DefaultAnchorGenerator(sizes=[[8]], aspect_ratios=[[1.0, 4.0]], strides=[4])
    # Area 64; ratio 4 is 4 wide and 16 high.
    assert next(iter(generator.cell_anchors)).tolist() == [[-4, -4, 4, 4], [-2, -8, 2, 8]]


def test_buffers_stay_out_of_the_state_dict_and_have_their_names():
    generator = DefaultAnchorGenerator(sizes=[[8], [16]], aspect_ratios=[[1.0]], strides=[4, 8])
    assert not generator.state_dict()
    assert [name for name, _ in generator.named_buffers()] == ["cell_anchors.0", "cell_anchors.1"]
    assert isinstance(generator.cell_anchors, BufferList) and len(generator.cell_anchors) == 2


def test_anchors_follow_the_module_and_its_cell_anchors():
    generator = DefaultAnchorGenerator(sizes=[[8]], aspect_ratios=[[1.0]], strides=[4], offset=0.0)
    first = generator(_features([(2, 2)]))[0]
    first.scale(2, 2)  # in place
    again = generator(_features([(2, 2)]))[0].tensor
    torch.testing.assert_close(again[0], torch.tensor([-4.0, -4, 4, 4]))
    generator.cell_anchors = BufferList([torch.tensor([[-1.0, -1, 1, 1]])])
    torch.testing.assert_close(
        generator(_features([(2, 2)]))[0].tensor[0], torch.tensor([-1.0, -1, 1, 1])
    )
    assert generator.to("meta")(_features([(2, 2)]))[0].device.type == "meta"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"offset": 1.0}, "OFFSET is 1.0"),
        ({"sizes": []}, "SIZES must be a list"),
        ({"aspect_ratios": [[1.0]] * 3}, "ASPECT_RATIOS has 3 lists for 2 feature maps"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change, message):
    settings = {"sizes": [[8]], "aspect_ratios": [[1.0]], "strides": [4, 8], "offset": 0.0}
    with pytest.raises(ValueError, match=message):
        DefaultAnchorGenerator(**{**settings, **change})


def test_both_generators_are_registered():
    for kind in (DefaultAnchorGenerator, RotatedAnchorGenerator):
        assert ANCHOR_GENERATOR_REGISTRY.get(kind.__name__) is kind
