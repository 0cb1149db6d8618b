"""The settings of a run that are neither of the model nor of the data."""

from d2lite.config import get_cfg

train = dict(
    output_dir="./output",
    init_checkpoint="",  # weights to start from: a path, https://, detectron2://, torchvision://
    max_iter=90000,
    seed=-1,  # negative: draw one
    amp=dict(enabled=False),  # float16 in training
    accumulate_steps=1,  # parts of a batch that go through the model one after the other
    ddp=dict(  # arguments of create_ddp_model
        broadcast_buffers=False,
        find_unused_parameters=False,
        fp16_compression=False,
    ),
    checkpointer=dict(period=5000, max_to_keep=100),  # arguments of PeriodicCheckpointer
    eval_period=5000,
    log_period=20,
    # Steps whose loss is not finite: "raise" an error or "skip" them; docs/bad_steps.md
    bad_steps=dict(action="raise", check_gradients=False, max_in_a_row=10, keep=3),
    device=get_cfg().MODEL.DEVICE,  # the best one found
)
