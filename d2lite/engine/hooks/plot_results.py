"""Hook that plots the curves of a run when training ends."""

import logging
import os

from d2lite.engine.train_loop import HookBase
from d2lite.utils.run_curves import PICTURE, draw_runs, read_runs

logger = logging.getLogger(__name__)


class PlotResults(HookBase):
    """Hook that plots metrics.json of a run as results.png in the same folder when training ends.

    It must come after the writers. If plotting fails, it logs a warning.
    """

    def __init__(self, output_dir: str) -> None:
        """output_dir: the folder of the run."""
        self._folder = output_dir

    def after_train(self) -> None:
        path = os.path.join(self._folder, PICTURE)
        try:
            draw_runs(read_runs([self._folder]), path)
        except (OSError, ValueError) as error:
            logger.warning("%s is not drawn: %s", path, error)
        else:
            logger.info("Drew the curves of the run into %s", path)
