"""What can be wrong with a config. Each error prints as one line that tells what to change."""


class UnknownKeyError(KeyError, AssertionError):
    """A key that the config does not have.

    Projects written for detectron2 expect a KeyError from a file and an AssertionError from a list
    of overrides; this is both.
    """

    def __str__(self) -> str:  # a KeyError would print the repr of its text
        return str(self.args[0]) if self.args else ""


class ConfigTypeError(ValueError):
    """A value whose type differs from that of the default."""


class ConfigVersionError(ValueError, AssertionError):
    """A config of another version than the function takes."""


class ConfigYamlError(ValueError):
    """A file that is no yaml, or holds yaml tags that would run code."""


class ConfigFileError(FileNotFoundError, AssertionError):
    """A config file, or the `_BASE_` of one, that does not exist.

    Programs written for detectron2 expect an AssertionError of `merge_from_file`.
    """
