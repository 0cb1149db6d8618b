import pytest
import torch

from d2lite.utils.memory import _to_cpu, retry_if_cuda_oom


def failing(times, error):
    """A function that fails so often before it returns its argument."""
    calls = []

    def function(x, scale=1):
        calls.append(x)
        if len(calls) <= times:
            raise error
        return x * scale

    return function, calls


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_full_gpu_is_retried(failures):
    function, calls = failing(failures, torch.cuda.OutOfMemoryError("full"))
    assert retry_if_cuda_oom(function)(torch.ones(2), scale=3).tolist() == [3.0, 3.0]
    assert len(calls) == failures + 1


def test_third_failure_is_passed_on():
    function, _ = failing(3, torch.cuda.OutOfMemoryError("full"))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        retry_if_cuda_oom(function)(1)


def test_other_errors_are_not_retried():
    function, calls = failing(1, RuntimeError("shape"))
    with pytest.raises(RuntimeError, match="shape"):
        retry_if_cuda_oom(function)(1)
    assert len(calls) == 1


def test_only_gpu_structures_are_moved():
    class OnGpu:
        device = torch.device("cuda", 0)

        def to(self, device):
            return f"on {device}"

    tensor = torch.ones(1)
    assert _to_cpu(tensor) is tensor
    assert _to_cpu("text") == "text"
    assert _to_cpu(OnGpu()) == "on cpu"
