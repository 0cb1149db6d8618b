"""The polynomial learning rate schedule."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from d2lite.solver.lr_scheduler import warmup_factor_at


class WarmupPolyLR(LRScheduler):
    """Warm-up times (1 - iteration / max_iters) ** power (DeepLab, sec. 4.1)."""

    def __init__(
        self,
        optimizer: Optimizer,
        max_iters: int,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
        power: float = 0.9,
        constant_ending: float = 0.0,
    ):
        """
        Args:
            optimizer: the optimizer to set the rates of.
            max_iters: iterations until the rate is 0.
            warmup_factor: factor of the warm-up at iteration 0.
            warmup_iters: iterations until the factor of the warm-up is 1.
            warmup_method: "linear" or "constant".
            last_epoch: the last completed iteration, or -1.
            power: exponent of the decay.
            constant_ending: lower limit of the decay, once the warm-up is over; 0: none.
        """
        self.max_iters = max_iters
        self.warmup_factor = warmup_factor
        self.warmup_iters = warmup_iters
        self.warmup_method = warmup_method
        self.power = power
        self.constant_ending = constant_ending
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each parameter group at the current iteration."""
        warmup = warmup_factor_at(
            self.warmup_method, self.last_epoch, self.warmup_iters, self.warmup_factor
        )
        decay = max(1.0 - self.last_epoch / self.max_iters, 0.0) ** self.power
        if warmup == 1.0:
            decay = max(decay, self.constant_ending)
        return [base_lr * warmup * decay for base_lr in self.base_lrs]
