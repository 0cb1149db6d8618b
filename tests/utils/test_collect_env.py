import torch

from d2lite.utils import collect_env


def test_environment_names_versions():
    text = collect_env.collect_env_info()
    assert torch.__version__ in text and "d2lite" in text and "torchvision" in text


def test_environment_is_printed(capsys):
    collect_env.main()
    assert "PyTorch" in capsys.readouterr().out
