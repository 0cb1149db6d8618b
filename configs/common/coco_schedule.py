"""Learning rate schedules of COCO, in units of 90000 iterations of 16 images (12 epochs)."""

from fvcore.common.param_scheduler import MultiStepParamScheduler

from d2lite.config import LazyCall as L
from d2lite.solver import WarmupParamScheduler


def default_X_scheduler(num_X):
    """Return the schedule of `num_X` times 90000 iterations, a tenth of the rate at two steps.

    1x and 2x step after two thirds and eight ninths. Longer ones keep the full rate for longer:
    they step 60000 and 20000 iterations before the end.
    """
    total = num_X * 90000
    milestones = [60000, 80000] if num_X <= 2 else [total - 60000, total - 20000]
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(
            values=[1.0, 0.1, 0.01],
            # The last one is the end; only ratios count.
            milestones=[*milestones, 90000 if num_X <= 2 else total],
        ),
        warmup_length=1000 / total,
        warmup_method="linear",
        warmup_factor=0.001,
    )


lr_multiplier_1x = default_X_scheduler(1)
lr_multiplier_2x = default_X_scheduler(2)
lr_multiplier_3x = default_X_scheduler(3)
lr_multiplier_6x = default_X_scheduler(6)
lr_multiplier_9x = default_X_scheduler(9)
