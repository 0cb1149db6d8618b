"""Defaults of INPUT, DATASETS and DATALOADER."""

from fvcore.common.config import CfgNode as _CfgNode

__all__ = ["add_data_defaults"]


def add_data_defaults(cfg: _CfgNode) -> None:
    """Add the groups that tell which images are read, and how."""
    node = type(cfg)
    cfg.INPUT, cfg.DATASETS, cfg.DATALOADER = node(), node(), node()
    _add_input(cfg.INPUT, node)
    _add_datasets(cfg.DATASETS)
    _add_dataloader(cfg.DATALOADER)


def _add_input(inputs: _CfgNode, node: type[_CfgNode]) -> None:
    # Which function of AUGMENTATION_REGISTRY lists the augmentations, for training and testing;
    # projects add theirs. This one does what the next keys say.
    inputs.AUGMENTATION = "resize_and_flip"
    # What of DATASET_MAPPER_REGISTRY turns a dataset dict into the model's input; projects add
    # theirs. New in d2lite.
    inputs.DATASET_MAPPER = "DatasetMapper"
    # Length in pixels that the short side of a training image is resized to: one of these
    # ("choice"), or any between two ("range").
    inputs.MIN_SIZE_TRAIN = (800,)
    inputs.MIN_SIZE_TRAIN_SAMPLING = "choice"
    # The most that the long side may have then, in pixels; the short one becomes shorter.
    inputs.MAX_SIZE_TRAIN = 1333
    # The same at test time; a short side of 0 leaves the size as it is.
    inputs.MIN_SIZE_TEST = 800
    inputs.MAX_SIZE_TEST = 1333
    # Mirror half of the training images: "horizontal", "vertical" or "none".
    inputs.RANDOM_FLIP = "horizontal"

    # Cut a random part out of each training image, before it is resized.
    inputs.CROP = node()
    inputs.CROP.ENABLED = False
    # What SIZE means, as (height, width): "relative" (shares of the image), "relative_range" (the
    # least shares; drawn between them and 1), "absolute" (pixels), "absolute_range" (least and
    # greatest side in pixels).
    inputs.CROP.TYPE = "relative_range"
    inputs.CROP.SIZE = [0.9, 0.9]

    # Order of channels that the model sees: "BGR", "RGB", or a mode of Pillow such as "L".
    inputs.FORMAT = "BGR"
    # New in d2lite: the value of 16-bit images that the model sees as 255: 65535, or 4095 for
    # content of 12 bits, 255 for content of 8 bits.
    inputs.MAX_VALUE_16_BIT = 65535
    # Form of masks in training: "polygon", or "bitmask", which also takes RLE and survives
    # rotation and cropping exactly.
    inputs.MASK_FORMAT = "polygon"


def _add_datasets(datasets: _CfgNode) -> None:
    # Names, or URIs such as "coco:train.json?images=DIR" and "voc:DIR?split=train", of the
    # datasets to train on; they are joined.
    datasets.TRAIN = ()
    # Files of precomputed proposals, one for each dataset, where MODEL.LOAD_PROPOSALS is on; and
    # how many of each image's are used.
    datasets.PROPOSAL_FILES_TRAIN = ()
    datasets.PRECOMPUTED_PROPOSAL_TOPK_TRAIN = 2000
    # The same for testing; each dataset is evaluated on its own.
    datasets.TEST = ()
    datasets.PROPOSAL_FILES_TEST = ()
    datasets.PRECOMPUTED_PROPOSAL_TOPK_TEST = 1000


def _add_dataloader(loader: _CfgNode) -> None:
    # Processes that read images, for each training process; 0 reads in the training process.
    # The number does not change what is read.
    loader.NUM_WORKERS = 4
    # Put wide and tall images into separate batches, which need less padding then.
    loader.ASPECT_RATIO_GROUPING = True
    # Order of training images: TrainingSampler (shuffled), RepeatFactorTrainingSampler (shuffled,
    # images of rare classes repeated), RandomSubsetTrainingSampler.
    loader.SAMPLER_TRAIN = "TrainingSampler"
    # Repeat images of classes that fewer than this share of images have. For
    # RepeatFactorTrainingSampler; 0 repeats none.
    loader.REPEAT_THRESHOLD = 0.0
    # Repeat by the square root of (threshold / share), or by the ratio itself.
    loader.REPEAT_SQRT = True
    # New in d2lite: share of the images that RandomSubsetTrainingSampler draws from, in (0, 1].
    loader.RANDOM_SUBSET_RATIO = 1.0
    # Leave training images without objects out.
    loader.FILTER_EMPTY_ANNOTATIONS = True
    # New in d2lite: what to do with an image that cannot be read. "raise" stops with its path;
    # "skip" logs and counts it, and takes another one in training and none in testing.
    loader.ON_BAD_SAMPLE = "raise"
