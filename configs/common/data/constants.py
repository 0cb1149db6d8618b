"""What to subtract from pixels in [0, 255], and what to divide them by."""

constants = dict(
    imagenet_rgb256_mean=[123.675, 116.28, 103.53],
    imagenet_rgb256_std=[58.395, 57.12, 57.375],
    imagenet_bgr256_mean=[103.530, 116.280, 123.675],
    # Caffe2's and MSRA's weights have the deviation within their first convolution.
    imagenet_bgr256_std=[1.0, 1.0, 1.0],
)
