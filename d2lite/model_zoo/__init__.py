"""Look up configs and released models of detectron2's model zoo by their names."""

from d2lite.model_zoo.model_zoo import get, get_checkpoint_url, get_config, get_config_file

__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file"]
