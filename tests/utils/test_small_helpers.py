"""The modules of a few lines each: serialize, develop, versions, tracing, environment."""

import copy
import pickle

import pytest
import torch

from d2lite.utils import collect_env
from d2lite.utils.develop import create_dummy_class, create_dummy_func
from d2lite.utils.errors import ArgumentError
from d2lite.utils.serialize import PicklableWrapper
from d2lite.utils.torch_version_utils import min_torch_version
from d2lite.utils.tracing import assert_fx_safe, is_fx_tracing, is_fx_tracing_legacy

# --- serialize


def double(x):
    return 2 * x


def test_wrapped_function_is_called_and_pickled():
    wrapped = PicklableWrapper(PicklableWrapper(double))
    assert wrapped._obj is double
    assert wrapped.__name__ == "double"
    assert pickle.loads(pickle.dumps(wrapped))(3) == 6
    assert copy.deepcopy(wrapped)(3) == 6


def test_lambdas_and_closures_are_pickled():
    step = 1
    wrapped = PicklableWrapper(lambda x: x + step)
    assert pickle.loads(pickle.dumps(wrapped))(3) == 4


# --- errors


def test_argument_errors_are_caught_as_what_programs_expect():
    for kind in (AssertionError, ValueError, TypeError):
        with pytest.raises(kind, match="as written"):
            raise ArgumentError("as written")


# --- develop


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


# --- versions and tracing


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


# --- environment


def test_environment_names_versions():
    text = collect_env.collect_env_info()
    assert torch.__version__ in text and "d2lite" in text and "torchvision" in text


def test_environment_is_printed(capsys):
    collect_env.main()
    assert "PyTorch" in capsys.readouterr().out


def test_compiled_architectures_need_the_toolkit(tmp_path):
    assert "cannot find cuobjdump" in collect_env.detect_compute_compatibility(str(tmp_path), "x")
    program = tmp_path / "bin" / "cuobjdump"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\necho 'ELF file 1: a.sm_80.cubin'\necho 'ELF file 2: a.sm_120.cubin'\n"
    )
    program.chmod(0o755)
    assert collect_env.detect_compute_compatibility(str(tmp_path), "x") == "8.0, 12.0"
