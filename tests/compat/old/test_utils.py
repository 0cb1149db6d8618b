"""Small modules and functions of detectron2's utils that nothing here uses."""

import pytest
import torch

from d2lite.utils import collect_env
from d2lite.utils.develop import create_dummy_class, create_dummy_func
from d2lite.utils.torch_version_utils import min_torch_version
from d2lite.utils.tracing import assert_fx_safe, is_fx_tracing, is_fx_tracing_legacy


def test_dummies_name_what_is_missing():
    Dummy = create_dummy_class("Dummy", "panopticapi", "See its page.")
    function = create_dummy_func("function", ["a", "b"])
    assert function.__name__ == "function"
    with pytest.raises(ImportError, match=r"Dummy needs panopticapi.*See its page"):
        Dummy(3)
    with pytest.raises(ImportError, match="panopticapi"):
        Dummy.attribute  # noqa: B018
    with pytest.raises(ImportError, match="function needs a, b"):
        function()


@pytest.mark.parametrize(
    "installed, wanted, expected",
    [("2.10.0", "2.9", True), ("2.4.0+cu121", "2.4.0", True), ("2.4.1", "2.5", False)],
)
def test_versions_compare_by_number(monkeypatch, installed, wanted, expected):
    monkeypatch.setattr(torch, "__version__", installed)
    assert min_torch_version(wanted) is expected


def test_tracing_is_seen_by_fx_only():
    class Model(torch.nn.Module):
        seen = None

        def forward(self, x):
            Model.seen = is_fx_tracing() and is_fx_tracing_legacy()
            assert_fx_safe(x.sum() > 0, "must be positive")
            return x

    Model()(torch.ones(1))
    assert Model.seen is False
    with pytest.raises(AssertionError, match="must be positive"):
        Model()(-torch.ones(1))
    torch.fx.symbolic_trace(Model())
    assert Model.seen is True


def test_compiled_architectures_need_the_toolkit(tmp_path):
    assert "cannot find cuobjdump" in collect_env.detect_compute_compatibility(str(tmp_path), "x")
    program = tmp_path / "bin" / "cuobjdump"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\necho 'ELF file 1: a.sm_80.cubin'\necho 'ELF file 2: a.sm_120.cubin'\n"
    )
    program.chmod(0o755)
    assert collect_env.detect_compute_compatibility(str(tmp_path), "x") == "8.0, 12.0"
