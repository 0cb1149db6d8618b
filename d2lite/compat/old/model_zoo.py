"""Private helpers of detectron2's model zoo."""

from d2lite.model_zoo.checkpoint_urls import CHECKPOINT_SUFFIXES, URL_PREFIX


class _ModelZooUrls:
    """URLs of released models, by names of configs without extension."""

    S3_PREFIX = URL_PREFIX
    CONFIG_PATH_TO_URL_SUFFIX = CHECKPOINT_SUFFIXES

    @staticmethod
    def query(config_path: str) -> str | None:
        """Return the URL of the weights of a config, or None if none are released."""
        name = config_path.removesuffix(".yaml").removesuffix(".py")
        suffix = CHECKPOINT_SUFFIXES.get(name)
        return None if suffix is None else f"{URL_PREFIX}{name}/{suffix}"
