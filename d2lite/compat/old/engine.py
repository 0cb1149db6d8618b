"""Deprecated parts of detectron2's engine and export."""

import socket
import warnings
from collections.abc import Callable
from typing import Any

import torch

from d2lite.config import CfgNode
from d2lite.config.keys import get_key
from d2lite.engine.hooks import TorchProfiler


class AutogradProfiler(TorchProfiler):
    """Hook that profiles the iterations chosen by a predicate; replaced by `hooks.TorchProfiler`.

    Each profiled iteration N writes `profiler_iterN-trace.json` for a trace viewer.
    """

    def __init__(
        self,
        enable_predicate: Callable[[Any], bool],
        output_dir: str,
        *,
        use_cuda: bool = True,
    ):
        """
        Args:
            enable_predicate: called with the trainer before each step; True profiles the step.
            output_dir: folder of the traces.
            use_cuda: also measure GPU kernels, if there is a GPU.
        """
        warnings.warn(
            "AutogradProfiler is deprecated; use TorchProfiler", DeprecationWarning, stacklevel=2
        )
        super().__init__(enable_predicate, output_dir, save_tensorboard=False)
        self._use_cuda = use_cuda

    def before_step(self) -> None:
        """Start the profiler if the predicate returns True."""
        if self._enable_predicate(self.trainer):
            on_gpu = self._use_cuda and torch.cuda.is_available()
            self._profiler = torch.autograd.profiler.profile(use_device="cuda" if on_gpu else None)
            self._profiler.__enter__()


def add_export_config(cfg: CfgNode) -> CfgNode:
    """Return `cfg` unchanged: exporting no longer needs settings."""
    warnings.warn("add_export_config no longer has any effect", DeprecationWarning, stacklevel=2)
    return cfg


def _highlight(code: str, filename: str) -> str:
    """Color code for the terminal if pygments is installed; otherwise return it unchanged."""
    try:
        import pygments
        from pygments.formatters import Terminal256Formatter
        from pygments.lexers import Python3Lexer, YamlLexer
    except ImportError:
        return code
    lexer = Python3Lexer() if filename.endswith(".py") else YamlLexer()
    return pygments.highlight(code, lexer, Terminal256Formatter(style="monokai"))


def _try_get_key(cfg: Any, *keys: str, default: Any = None) -> Any:
    """Return the value of the first dotted key that the config has, or the default."""
    found = (get_key(cfg, key, None) for key in keys)
    return next((value for value in found if value is not None), default)


def _find_free_port() -> int:
    """Return a port of this machine that is currently free; another program may take it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
