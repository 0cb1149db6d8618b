"""An alias package, which is not detectron2 itself: its modules are those of d2lite.

`python -m d2lite.compat --install` copies this package into an environment, and
`python -m d2lite.compat --uninstall` removes it.
"""

ALIAS_OF = "d2lite"

try:
    import d2lite
    import d2lite.compat.detectron2
except ModuleNotFoundError as error:
    if error.name not in ("d2lite", "d2lite.compat"):
        raise
    raise ModuleNotFoundError(
        f"{__file__} is an alias of d2lite, which cannot be imported; install d2lite, or remove "
        "the alias with: pip uninstall detectron2",
        name="d2lite",
    ) from None

__version__ = "0.6"

# Programs look for files beside the package, and list its modules.
__file__ = d2lite.__file__
__path__ = list(d2lite.__path__)


def __getattr__(name: str):
    if name == "setup_environment":
        from d2lite.utils.env import setup_environment

        return setup_environment
    try:
        return getattr(d2lite, name)
    except AttributeError:
        raise AttributeError(f"module 'detectron2' has no attribute {name!r}") from None
