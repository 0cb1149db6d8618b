"""Errors in configs. Each prints as one line that says what to change."""


class UnknownKeyError(KeyError, AssertionError):
    """A key that the config does not have.

    Projects written for detectron2 expect a KeyError from a file and an AssertionError from a list
    of overrides; this is both.
    """

    def __str__(self) -> str:  # KeyError would print the repr of its message
        return str(self.args[0]) if self.args else ""


class ConfigTypeError(ValueError):
    """A value whose type differs from that of the default."""


class ConfigVersionError(ValueError, AssertionError):
    """A config of a version that the function does not accept."""


class ConfigYamlError(ValueError):
    """A file that is not yaml, or contains yaml tags that would run code."""


class ConfigFileError(FileNotFoundError, AssertionError):
    """A config file or a `_BASE_` file that does not exist.

    Programs written for detectron2 expect an AssertionError from `merge_from_file`.
    """
