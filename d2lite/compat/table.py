"""The table of names that only code written for detectron2 uses: old path -> object here.

Paths leave out the package: "solver.build" is `detectron2.solver.build` and `d2lite.solver.build`.
It has three kinds of names, which `names.py` finds:

- MOVED: names defined in detectron2, mostly private, that have another name or place here, or are
  small functions in `compat/old/`, which nothing else here calls.
- IMPORTED: names that a module of detectron2 only imports, and that people import from there.
- GONE: names that need detectron2's C++ extension, TorchScript or Caffe2.
"""

PACKAGE = __name__.partition(".")[0]

# Module of detectron2 -> {name: "module:attribute" here}. "old." is short for "compat.old.".
MOVED: dict[str, dict[str, str]] = {
    "checkpoint.c2_model_loading": {
        "_group_str": "old.checkpoint:_group_str",
        "_longest_common_prefix": "old.checkpoint:_longest_common_prefix",
        "_longest_common_prefix_str": "old.checkpoint:_longest_common_prefix_str",
    },
    "config.config": {
        "BASE_KEY": ".fvcore.common.config:BASE_KEY",
        "_CfgNode": ".fvcore.common.config:CfgNode",
        "_called_with_cfg": "config.configurable:_called_with_cfg",
        "_get_args_from_config": "old.config:_get_args_from_config",
    },
    "data.build": {
        "check_metadata_consistency": "data.detection_utils:check_metadata_consistency",
    },
    "data": {"ToIterableDataset": "old.iterable_data:ToIterableDataset"},
    "data.common": {
        "ToIterableDataset": "old.iterable_data:ToIterableDataset",
        "_DEFAULT_DATASET_FROM_LIST_SERIALIZE_METHOD": "data.common:_default_serialization",
        "_TorchSerializedList": "data.common:_SerializedList",
        "_shard_iterator_dataloader_worker": "old.data:_shard_iterator_dataloader_worker",
    },
    "data.datasets.builtin": {
        "_PREDEFINED_SPLITS_COCO": "old.data:_PREDEFINED_SPLITS_COCO",
        "_PREDEFINED_SPLITS_COCO_PANOPTIC": "old.data:_PREDEFINED_SPLITS_COCO_PANOPTIC",
        "_PREDEFINED_SPLITS_LVIS": "old.data:_PREDEFINED_SPLITS_LVIS",
        "_RAW_CITYSCAPES_SPLITS": "old.data:_RAW_CITYSCAPES_SPLITS",
        "_get_builtin_metadata": "old.data:_get_builtin_metadata",
        "_root": "old.data:_root",
    },
    "data.datasets.builtin_meta": {
        "_get_builtin_metadata": "old.data:_get_builtin_metadata",
        "_get_coco_instances_meta": "data.datasets.builtin_meta:_coco_instances",
        "_get_coco_panoptic_separated_meta": "data.datasets.builtin_meta:_coco_panoptic_separated",
    },
    "data.datasets.cityscapes": {
        "_cityscapes_files_to_dict": "old.data:_cityscapes_files_to_dict",
        "_get_cityscapes_files": "old.data:_get_cityscapes_files",
    },
    "data.datasets.lvis": {
        "_get_lvis_instances_meta_v0_5": "old.data:_get_lvis_instances_meta_v0_5",
        "_get_lvis_instances_meta_v1": "old.data:_get_lvis_instances_meta_v1",
    },
    "data.detection_utils": {
        "_EXIF_ORIENT": "data.image_io:_EXIF_ORIENTATION",
        "_M_RGB2YUV": "data.image_io:_RGB_TO_YUV",
        "_M_YUV2RGB": "data.image_io:_YUV_TO_RGB",
        "_apply_exif_orientation": "old.data:_apply_exif_orientation",
        "build_transform_gen": "data.detection_utils:build_augmentation",
        "gen_crop_transform_with_instance": "old.data:gen_crop_transform_with_instance",
    },
    "data.samplers": {
        "GroupedBatchSampler": "old.grouped_batch_sampler:GroupedBatchSampler",
    },
    "data.transforms.augmentation": {
        "_check_img_dtype": "old.data:_check_img_dtype",
        "_get_aug_input_args": "old.data:_get_aug_input_args",
    },
    "engine": {
        "AutogradProfiler": "old.engine:AutogradProfiler",
    },
    "engine.defaults": {
        "_highlight": "old.engine:_highlight",
        "_try_get_key": "old.engine:_try_get_key",
    },
    "engine.hooks": {
        "AutogradProfiler": "old.engine:AutogradProfiler",
    },
    "engine.hooks.timing": {
        "TorchProfiler": "engine.hooks.profiling:TorchProfiler",
    },
    "engine.launch": {
        "_find_free_port": "old.engine:_find_free_port",
    },
    "evaluation.coco_evaluation": {
        "COCOevalMaxDets": "old.evaluation:COCOevalMaxDets",
        "_evaluate_box_proposals": "old.evaluation:_evaluate_box_proposals",
        "_evaluate_predictions_on_coco": "old.evaluation:_evaluate_predictions_on_coco",
        "instances_to_coco_json": "evaluation.coco_json:instances_to_coco_json",
    },
    "evaluation.lvis_evaluation": {
        "_evaluate_box_proposals": "old.evaluation:_evaluate_box_proposals_lvis",
        "_evaluate_predictions_on_lvis": "old.evaluation:_evaluate_predictions_on_lvis",
    },
    "evaluation.panoptic_evaluation": {
        "_print_panoptic_results": "old.evaluation:_print_panoptic_results",
    },
    "evaluation.pascal_voc_evaluation": {
        "parse_rec": "old.voc:parse_rec",
        "voc_ap": "evaluation.voc_ap:voc_ap",
        "voc_eval": "old.voc:voc_eval",
    },
    "evaluation.voc_ap": {
        "parse_rec": "old.voc:parse_rec",
        "voc_eval": "old.voc:voc_eval",
    },
    "export": {
        "add_export_config": "old.engine:add_export_config",
    },
    "layers": {
        "disable_torch_compiler": "old.layers:disable_torch_compiler",
        "move_device_like": "old.layers:move_device_like",
        "nonzero_tuple": "old.layers:nonzero_tuple",
        "shapes_to_tensor": "old.layers:shapes_to_tensor",
    },
    "layers.deform_conv": {
        "_DeformConv": "old.layers:_DeformConv",
        "_ModulatedDeformConv": "old.layers:_ModulatedDeformConv",
        "_NewEmptyTensorOp": "old.layers:_NewEmptyTensorOp",
        "deform_conv": "old.layers:deform_conv",
        "modulated_deform_conv": "old.layers:modulated_deform_conv",
    },
    "layers.mask_ops": {
        "_do_paste_mask": "old.layers:_do_paste_mask",
        "_paste_masks_tensor_shape": "old.layers:_paste_masks_tensor_shape",
        "pad_masks": "old.layers:pad_masks",
        "paste_mask_in_image_old": "old.layers:paste_mask_in_image_old",
        "scale_boxes": "old.layers:scale_boxes",
    },
    "layers.roi_align_rotated": {
        "_ROIAlignRotated": "old.layers:_ROIAlignRotated",
    },
    "layers.wrappers": {
        "_NewEmptyTensorOp": "old.layers:_NewEmptyTensorOp",
        "disable_torch_compiler": "old.layers:disable_torch_compiler",
        "move_device_like": "old.layers:move_device_like",
        "nonzero_tuple": "old.layers:nonzero_tuple",
        "shapes_to_tensor": "old.layers:shapes_to_tensor",
    },
    "model_zoo.model_zoo": {
        "_ModelZooUrls": "old.model_zoo:_ModelZooUrls",
    },
    "modeling": {
        "MMDetBackbone": "old.mmdet_wrapper:MMDetBackbone",
        "MMDetDetector": "old.mmdet_wrapper:MMDetDetector",
        "make_stage": "old.modeling:make_stage",
    },
    "modeling.anchor_generator": {
        "_broadcast_params": "old.modeling:_broadcast_params",
        "_create_grid_offsets": "old.modeling:_create_grid_offsets",
    },
    "modeling.backbone": {
        "make_stage": "old.modeling:make_stage",
    },
    "modeling.backbone.fpn": {
        "_assert_strides_are_log2_contiguous": "old.modeling:_assert_strides_are_log2_contiguous",
    },
    "modeling.backbone.regnet": {
        "VanillaBlock": "old.modeling:VanillaBlock",
    },
    "modeling.backbone.resnet": {
        "make_stage": "old.modeling:make_stage",
    },
    "modeling.backbone.utils": {
        "add_decomposed_rel_pos": "old.modeling:add_decomposed_rel_pos",
    },
    "modeling.backbone.vit": {
        "_assert_strides_are_log2_contiguous": "old.modeling:_assert_strides_are_log2_contiguous",
    },
    "modeling.box_regression": {
        "_DEFAULT_SCALE_CLAMP": "modeling.box_regression:DEFAULT_SCALE_CLAMP",
        "_dense_box_regression_loss": "modeling.box_regression:dense_box_regression_loss",
    },
    "modeling.meta_arch.retinanet": {
        "permute_all_cls_and_box_to_N_HWA_K_and_concat": (
            "old.modeling:permute_all_cls_and_box_to_N_HWA_K_and_concat"
        ),
    },
    "modeling.poolers": {
        "_create_zeros": "old.modeling:_create_zeros",
        "_fmt_box_list": "old.modeling:_fmt_box_list",
    },
    "modeling.proposal_generator.proposal_utils": {
        "_is_tracing": "old.modeling:_is_tracing",
    },
    "modeling.roi_heads.fast_rcnn": {
        "FastRCNNOutputs": "old.modeling:FastRCNNOutputs",
    },
    "solver": {
        "WarmupCosineLR": "old.solver:WarmupCosineLR",
        "WarmupMultiStepLR": "old.solver:WarmupMultiStepLR",
    },
    "solver.build": {
        "_create_gradient_clipper": "old.solver:_create_gradient_clipper",
        "_generate_optimizer_class_with_gradient_clipping": (
            "old.solver:_generate_optimizer_class_with_gradient_clipping"
        ),
    },
    "solver.lr_scheduler": {
        "WarmupCosineLR": "old.solver:WarmupCosineLR",
        "WarmupMultiStepLR": "old.solver:WarmupMultiStepLR",
        "_get_warmup_factor_at_iter": "old.solver:_get_warmup_factor_at_iter",
    },
    "structures.boxes": {
        "_RawBoxType": "structures.boxes:RawBoxes",
        "matched_boxlist_iou": "old.structures:matched_pairwise_iou",
        "matched_pairwise_iou": "old.structures:matched_pairwise_iou",
    },
    "structures.image_list": {
        "_as_tensor": "old.modeling:_as_tensor",
    },
    "structures.masks": {
        "rasterize_polygons_within_box": "old.structures:rasterize_polygons_within_box",
    },
    "utils.collect_env": {
        "detect_compute_compatibility": "old.utils:detect_compute_compatibility",
    },
    "utils.comm": {
        "_get_global_gloo_group": "old.utils:_get_global_gloo_group",
    },
    "utils.env": {
        "fixup_module_metadata": "old.utils:fixup_module_metadata",
    },
    "utils.events": {
        "_CURRENT_STORAGE_STACK": "utils.event_storage:_OPEN_STORAGES",
    },
    "utils.logger": {
        "_cached_log_stream": "utils.logger:_open_log_stream",
        "_log_api_usage": "old.utils:_log_api_usage",
    },
    "utils.memory": {
        "_ignore_torch_cuda_oom": "old.utils:_ignore_torch_cuda_oom",
    },
    "utils.painter": {
        "Painter": "visualization.visualizer:Visualizer",
    },
    "utils.registry": {
        "_convert_target_to_string": "utils.registry:convert_target_to_string",
    },
    "utils.testing": {
        "skipIfOnCPUCI": "old.utils:skipIfOnCPUCI",
    },
    "utils.visualizer": {
        "_PanopticPrediction": "old.visualizer:_PanopticPrediction",
        "_SMALL_OBJECT_AREA_THRESH": "old.visualizer:_SMALL_OBJECT_AREA_THRESH",
        "_create_text_labels": "visualization.visualizer:create_text_labels",
    },
}

# Module of detectron2 -> the module here.
MOVED_MODULES: dict[str, str] = {
    "data.benchmark": "old.benchmark",
    "data.samplers.grouped_batch_sampler": "old.grouped_batch_sampler",
    "modeling.mmdet_wrapper": "old.mmdet_wrapper",
    "utils.colormap": "old.colormap",
    "utils.develop": "old.develop",
    "utils.testing": "old.testing",
    "utils.torch_version_utils": "old.torch_version_utils",
    "utils.tracing": "old.tracing",
    "utils.video_visualizer": "visualization.video",
    "utils.visualizer": "visualization.visualizer",
    # Former modules of d2lite itself.
    "engine.early_stop": "engine.hooks.early_stop",
    "engine.ema": "engine.hooks.ema",
    "engine.timing": "engine.hooks.timing",
    "utils.canvas": "visualization.canvas",
    "utils.colors": "visualization.colors",
    "utils.generic_mask": "visualization.masks",
    "utils.label_layout": "visualization.label_layout",
    "utils.painter": "visualization.visualizer",
    "utils.panoptic_segments": "visualization.masks",
}

# Module here, or of another package -> the names that IMPORTED takes from it.
# A leading dot marks a module of another package.
HOMES: dict[str, str] = {
    "checkpoint": "DetectionCheckpointer",
    "checkpoint.c2_model_loading": "align_and_update_state_dicts",
    "config": "CfgNode LazyConfig configurable get_cfg instantiate",
    "data": "build_detection_test_loader build_detection_train_loader",
    "data.catalog": "DatasetCatalog MetadataCatalog",
    "data.common": "AspectRatioGroupedDataset DatasetFromList MapDataset",
    "data.dataset_mapper": "DatasetMapper",
    "data.datasets.builtin_meta": "ADE20K_SEM_SEG_CATEGORIES CITYSCAPES_CATEGORIES COCO_CATEGORIES",
    "data.datasets.cityscapes": "load_cityscapes_instances load_cityscapes_semantic",
    "data.datasets.cityscapes_panoptic": "register_all_cityscapes_panoptic",
    "data.datasets.coco": "convert_to_coco_dict convert_to_coco_json load_coco_json load_sem_seg",
    "data.datasets.coco_panoptic": "register_coco_panoptic register_coco_panoptic_separated",
    "data.datasets.lvis": "get_lvis_instances_meta register_lvis_instances",
    "data.datasets.pascal_voc": "register_pascal_voc",
    "data.datasets.register_coco": "register_coco_instances",
    "data.detection_utils": (
        "check_metadata_consistency convert_image_to_rgb get_fed_loss_cls_weights read_image"
    ),
    "data.samplers": (
        "InferenceSampler RandomSubsetTrainingSampler RepeatFactorTrainingSampler TrainingSampler"
    ),
    "data.transforms": (
        "Augmentation ExtentTransform RandomFlip ResizeShortestEdge ResizeTransform "
        "RotationTransform apply_augmentations"
    ),
    "data.transforms.augmentation": "_transform_to_aug",
    "engine.train_loop": "AMPTrainer HookBase SimpleTrainer TrainerBase",
    "evaluation": "DatasetEvaluator inference_on_dataset print_csv_format verify_results",
    "evaluation.coco_evaluation": "COCOEvaluator",
    "evaluation.coco_json": "instances_to_coco_json",
    "evaluation.fast_eval_api": "COCOeval_opt",
    "evaluation.testing": "flatten_results_dict",
    "layers": (
        "BatchNorm2d CNNBlockBase Conv2d ConvTranspose2d CycleBatchNormList DeformConv "
        "DepthwiseSeparableConv2d FrozenBatchNorm2d ModulatedDeformConv ROIAlign ROIAlignRotated "
        "ShapeSpec batched_nms batched_nms_rotated cat ciou_loss cross_entropy diou_loss get_norm "
        "interpolate"
    ),
    "layers.rotated_boxes": "pairwise_iou_rotated",
    "modeling": "build_model",
    "modeling.anchor_generator": "build_anchor_generator",
    "modeling.backbone": "Backbone build_backbone",
    "modeling.backbone.build": "BACKBONE_REGISTRY",
    "modeling.backbone.resnet": "BottleneckBlock ResNet build_resnet_backbone",
    "modeling.backbone.utils": ("PatchEmbed get_abs_pos window_partition window_unpartition"),
    "modeling.box_regression": (
        "Box2BoxTransform Box2BoxTransformLinear Box2BoxTransformRotated _dense_box_regression_loss"
    ),
    "modeling.matcher": "Matcher",
    "modeling.meta_arch": "GeneralizedRCNN",
    "modeling.meta_arch.build": "META_ARCH_REGISTRY",
    "modeling.meta_arch.dense_detector": "DenseDetector permute_to_N_HWA_K",
    "modeling.meta_arch.retinanet": "RetinaNetHead",
    "modeling.meta_arch.semantic_seg": "build_sem_seg_head",
    "modeling.poolers": "ROIPooler",
    "modeling.postprocessing": "detector_postprocess sem_seg_postprocess",
    "modeling.proposal_generator": "build_proposal_generator",
    "modeling.proposal_generator.build": "PROPOSAL_GENERATOR_REGISTRY",
    "modeling.proposal_generator.proposal_utils": (
        "add_ground_truth_to_proposals find_top_rpn_proposals"
    ),
    "modeling.proposal_generator.rpn": "RPN",
    "modeling.roi_heads": "build_roi_heads",
    "modeling.roi_heads.box_head": "build_box_head",
    "modeling.roi_heads.fast_rcnn": (
        "FastRCNNOutputLayers fast_rcnn_inference fast_rcnn_inference_single_image"
    ),
    "modeling.roi_heads.keypoint_head": "build_keypoint_head",
    "modeling.roi_heads.mask_head": "build_mask_head",
    "modeling.roi_heads.roi_heads": "ROI_HEADS_REGISTRY StandardROIHeads",
    "modeling.sampling": "subsample_labels",
    "solver": "LRMultiplier LRScheduler WarmupParamScheduler build_lr_scheduler build_optimizer",
    "structures": (
        "BitMasks BoxMode Boxes ImageList Instances Keypoints PolygonMasks ROIMasks RotatedBoxes "
        "heatmaps_to_keypoints pairwise_iou pairwise_point_box_distance polygons_to_bitmask"
    ),
    "tracking.base_tracker": "BaseTracker TRACKER_HEADS_REGISTRY",
    "tracking.hungarian_tracker": "BaseHungarianTracker",
    "tracking.utils": "LARGE_COST_VALUE create_prediction_pairs",
    "tracking.vanilla_hungarian_bbox_iou_tracker": "VanillaHungarianBBoxIOUTracker",
    "utils.collect_env": "collect_env_info",
    "utils.comm": "get_world_size is_main_process",
    "utils.env": "TORCH_VERSION seed_all_rng",
    "utils.events": (
        "CommonMetricPrinter EventStorage EventWriter JSONWriter TensorboardXWriter "
        "get_event_storage"
    ),
    "utils.file_io": "PathHandler PathManager",
    "utils.logger": (
        "_log_api_usage create_small_table log_every_n_seconds log_first_n setup_logger"
    ),
    "utils.memory": "retry_if_cuda_oom",
    "utils.registry": "Registry _convert_target_to_string locate",
    "utils.serialize": "PicklableWrapper",
    "utils.tracing": "assert_fx_safe is_fx_tracing",
    "visualization.visualizer": "ColorMode Visualizer _PanopticPrediction _create_text_labels",
    "old.colormap": "colormap random_color",
    "old.develop": "create_dummy_class create_dummy_func",
    "old.iterable_data": "ToIterableDataset",
    "old.layers": "move_device_like nonzero_tuple shapes_to_tensor",
    "old.modeling": "add_decomposed_rel_pos",
    ".fvcore.common.checkpoint": "Checkpointer",
    ".fvcore.common.history_buffer": "HistoryBuffer",
    ".fvcore.common.param_scheduler": (
        "CompositeParamScheduler ConstantParamScheduler CosineParamScheduler LinearParamScheduler "
        "MultiStepParamScheduler ParamScheduler StepWithFixedGammaParamScheduler"
    ),
    ".fvcore.common.timer": "Timer",
    ".fvcore.nn": "giou_loss sigmoid_focal_loss_jit smooth_l1_loss",
    ".fvcore.nn.precise_bn": "get_bn_modules update_bn_stats",
    ".fvcore.transforms.transform": (
        "BlendTransform CropTransform HFlipTransform NoOpTransform PadTransform Transform "
        "TransformList VFlipTransform"
    ),
    ".iopath.common.file_io": "HTTPURLHandler OneDrivePathHandler",
    ".omegaconf": "DictConfig ListConfig OmegaConf",
    ".pycocotools.coco": "COCO",
    ".pycocotools.cocoeval": "COCOeval",
    ".tabulate": "tabulate",
    ".termcolor": "colored",
    ".torch.nn.parallel": "DataParallel DistributedDataParallel",
    ".timm.layers": "DropPath to_2tuple",
    ".torch.nn.init": "trunc_normal_",
    ".torchvision.ops": "RoIPool",
}

# Names of modules, and names that nearly every module of detectron2 imports from other packages.
MODULES: dict[str, str] = {
    "T": "data.transforms",
    "comm": "utils.comm",
    "env": "utils.env",
    "hooks": "engine.hooks",
    "utils": "data.detection_utils",
    "box_ops": ".torchvision.ops.boxes",
    "mask_util": ".pycocotools.mask",
    "mplc": ".matplotlib.colors",
    "plt": ".matplotlib.pyplot",
    "mpl": ".matplotlib",
    "mplfigure": ".matplotlib.figure",
    "weight_init": ".fvcore.nn.weight_init",
    "cv2": ".cv2",
    "F": ".torch.nn.functional",
    "nn": ".torch.nn",
    "np": ".numpy",
    "torch": ".torch",
    "dist": ".torch.distributed",
    "torchdata": ".torch.utils.data",
    "Image": ".PIL.Image",
    "ImageOps": ".PIL.ImageOps",
}
_STANDARD_LIBRARY = (
    "collections contextlib copy datetime functools inspect itertools json logging math "
    "multiprocessing operator os pickle random re sys tempfile time typing warnings"
)

# Module of detectron2 -> names that it imports.
IMPORTED: dict[str, str] = {
    "checkpoint.c2_model_loading": "",
    "checkpoint.catalog": "PathHandler PathManager",
    "checkpoint.detection_checkpoint": (
        "Checkpointer DistributedDataParallel PathManager align_and_update_state_dicts"
    ),
    "config.compat": "CfgNode",
    "config.config": "PathManager",
    "config.instantiate": "_convert_target_to_string locate",
    "config.lazy": "DictConfig ListConfig OmegaConf PathManager _convert_target_to_string",
    "data.benchmark": (
        "DatasetFromList DatasetMapper InferenceSampler MapDataset Timer ToIterableDataset"
    ),
    "data.build": (
        "AspectRatioGroupedDataset BoxMode DatasetCatalog DatasetFromList DatasetMapper "
        "InferenceSampler MapDataset MetadataCatalog PathManager RandomSubsetTrainingSampler "
        "RepeatFactorTrainingSampler ToIterableDataset TrainingSampler _log_api_usage "
        "check_metadata_consistency colored configurable get_world_size log_first_n seed_all_rng "
        "tabulate"
    ),
    "data.catalog": "log_first_n",
    "data.common": "PicklableWrapper",
    "data.dataset_mapper": "configurable",
    "data.datasets.builtin": (
        "ADE20K_SEM_SEG_CATEGORIES CITYSCAPES_CATEGORIES COCO_CATEGORIES DatasetCatalog "
        "MetadataCatalog get_lvis_instances_meta load_cityscapes_instances "
        "load_cityscapes_semantic load_sem_seg register_all_cityscapes_panoptic "
        "register_coco_instances register_coco_panoptic register_coco_panoptic_separated "
        "register_lvis_instances register_pascal_voc"
    ),
    "data.datasets.builtin_meta": "",
    "data.datasets.cityscapes": "BoxMode PathManager setup_logger",
    "data.datasets.cityscapes_panoptic": (
        "CITYSCAPES_CATEGORIES DatasetCatalog MetadataCatalog PathManager"
    ),
    "data.datasets.coco": (
        "BitMasks BoxMode Boxes DatasetCatalog MetadataCatalog PathManager PolygonMasks "
        "RotatedBoxes Timer register_coco_instances"
    ),
    "data.datasets.coco_panoptic": (
        "DatasetCatalog MetadataCatalog PathManager load_coco_json load_sem_seg "
        "register_coco_instances"
    ),
    "data.datasets.lvis": "BoxMode DatasetCatalog MetadataCatalog PathManager Timer",
    "data.datasets.pascal_voc": "BoxMode DatasetCatalog MetadataCatalog PathManager",
    "data.datasets.register_coco": "",
    "data.detection_utils": (
        "BitMasks BoxMode Boxes Instances Keypoints MetadataCatalog PathManager PolygonMasks "
        "RotatedBoxes polygons_to_bitmask"
    ),
    "data.samplers.distributed_sampler": "",
    "data.samplers.grouped_batch_sampler": "",
    "data.transforms.augmentation": "Transform TransformList",
    "data.transforms.augmentation_impl": (
        "Augmentation BlendTransform CropTransform ExtentTransform HFlipTransform NoOpTransform "
        "PadTransform ResizeTransform RotationTransform Transform TransformList VFlipTransform "
        "_transform_to_aug"
    ),
    "data.transforms.transform": (
        "CropTransform HFlipTransform NoOpTransform Transform TransformList VFlipTransform"
    ),
    "engine.defaults": (
        "AMPTrainer CfgNode CommonMetricPrinter DatasetEvaluator DetectionCheckpointer "
        "DistributedDataParallel JSONWriter LazyConfig MetadataCatalog OmegaConf PathManager "
        "SimpleTrainer TensorboardXWriter TrainerBase build_detection_test_loader "
        "build_detection_train_loader build_lr_scheduler build_model build_optimizer "
        "collect_env_info inference_on_dataset print_csv_format seed_all_rng setup_logger "
        "verify_results"
    ),
    "engine.hooks": (
        "EventStorage EventWriter HookBase LRMultiplier LRScheduler ParamScheduler PathManager "
        "Timer flatten_results_dict get_bn_modules update_bn_stats"
    ),
    "engine.launch": "",
    "engine.train_loop": (
        "DataParallel DistributedDataParallel EventStorage _log_api_usage get_event_storage"
    ),
    "evaluation.cityscapes_evaluation": "DatasetEvaluator MetadataCatalog PathManager",
    "evaluation.coco_evaluation": (
        "BoxMode Boxes COCO COCOeval COCOeval_opt CfgNode DatasetEvaluator MetadataCatalog "
        "PathManager convert_to_coco_dict convert_to_coco_json create_small_table pairwise_iou "
        "tabulate"
    ),
    "evaluation.evaluator": "get_world_size is_main_process log_every_n_seconds",
    "evaluation.fast_eval_api": "COCOeval",
    "evaluation.lvis_evaluation": (
        "BoxMode Boxes DatasetEvaluator MetadataCatalog PathManager create_small_table "
        "instances_to_coco_json pairwise_iou"
    ),
    "evaluation.panoptic_evaluation": "DatasetEvaluator MetadataCatalog PathManager tabulate",
    "evaluation.pascal_voc_evaluation": "DatasetEvaluator MetadataCatalog PathManager",
    "evaluation.rotated_coco_evaluation": (
        "BoxMode COCO COCOEvaluator COCOeval PathManager RotatedBoxes create_small_table "
        "pairwise_iou_rotated"
    ),
    "evaluation.sem_seg_evaluation": "DatasetCatalog DatasetEvaluator MetadataCatalog PathManager",
    "evaluation.testing": "",
    "export.flatten": "BitMasks BoxMode Boxes ImageList Instances ROIMasks RotatedBoxes",
    "layers.aspp": "Conv2d DepthwiseSeparableConv2d ShapeSpec get_norm",
    "layers.batch_norm": "BatchNorm2d Conv2d",
    "layers.blocks": "Conv2d FrozenBatchNorm2d get_norm",
    "layers.deform_conv": "Conv2d create_dummy_class create_dummy_func",
    "layers.losses": "",
    "layers.mask_ops": "Boxes",
    "layers.nms": "",
    "layers.roi_align": "",
    "layers.roi_align_rotated": "",
    "layers.rotated_boxes": "",
    "layers.shape_spec": "",
    "layers.wrappers": "TORCH_VERSION",
    "model_zoo.model_zoo": (
        "CfgNode DetectionCheckpointer LazyConfig build_model get_cfg instantiate"
    ),
    "modeling.anchor_generator": (
        "Boxes Registry RotatedBoxes ShapeSpec configurable move_device_like"
    ),
    "modeling.backbone.backbone": "ShapeSpec",
    "modeling.backbone.build": "Backbone Registry ShapeSpec",
    "modeling.backbone.fpn": (
        "BACKBONE_REGISTRY Backbone Conv2d ShapeSpec build_resnet_backbone get_norm"
    ),
    "modeling.backbone.mvit": (
        "Backbone DropPath PatchEmbed add_decomposed_rel_pos get_abs_pos trunc_normal_ "
        "window_partition window_unpartition"
    ),
    "modeling.backbone.regnet": "Backbone CNNBlockBase get_norm",
    "modeling.backbone.resnet": (
        "BACKBONE_REGISTRY Backbone CNNBlockBase Conv2d DeformConv ModulatedDeformConv ShapeSpec "
        "get_norm"
    ),
    "modeling.backbone.swin": "Backbone DropPath to_2tuple trunc_normal_",
    "modeling.backbone.utils": "",
    "modeling.backbone.vit": (
        "Backbone CNNBlockBase Conv2d DropPath PatchEmbed add_decomposed_rel_pos get_abs_pos "
        "get_norm trunc_normal_ window_partition window_unpartition"
    ),
    "modeling.box_regression": "Boxes cat ciou_loss diou_loss giou_loss smooth_l1_loss",
    "modeling.matcher": "nonzero_tuple",
    "modeling.meta_arch.build": "Registry _log_api_usage",
    "modeling.meta_arch.dense_detector": (
        "Backbone Boxes ImageList Instances cat convert_image_to_rgb detector_postprocess "
        "get_event_storage move_device_like"
    ),
    "modeling.meta_arch.fcos": (
        "Backbone Box2BoxTransformLinear Boxes DenseDetector ImageList Instances RetinaNetHead "
        "ShapeSpec _dense_box_regression_loss batched_nms cat get_event_storage "
        "pairwise_point_box_distance sigmoid_focal_loss_jit"
    ),
    "modeling.meta_arch.panoptic_fpn": (
        "GeneralizedRCNN ImageList META_ARCH_REGISTRY build_backbone build_proposal_generator "
        "build_roi_heads build_sem_seg_head configurable detector_postprocess sem_seg_postprocess"
    ),
    "modeling.meta_arch.rcnn": (
        "Backbone ImageList Instances META_ARCH_REGISTRY build_backbone build_proposal_generator "
        "build_roi_heads configurable convert_image_to_rgb detector_postprocess get_event_storage "
        "log_first_n move_device_like"
    ),
    "modeling.meta_arch.retinanet": (
        "Backbone Box2BoxTransform Boxes CycleBatchNormList DenseDetector ImageList Instances "
        "META_ARCH_REGISTRY Matcher ShapeSpec _dense_box_regression_loss batched_nms "
        "build_anchor_generator build_backbone cat configurable convert_image_to_rgb "
        "detector_postprocess get_event_storage get_norm pairwise_iou permute_to_N_HWA_K "
        "sigmoid_focal_loss_jit smooth_l1_loss"
    ),
    "modeling.meta_arch.semantic_seg": (
        "Backbone Conv2d ImageList META_ARCH_REGISTRY Registry ShapeSpec build_backbone "
        "configurable get_norm sem_seg_postprocess"
    ),
    "modeling.mmdet_wrapper": "Backbone BitMasks Boxes ImageList Instances ShapeSpec",
    "modeling.poolers": (
        "Boxes ROIAlign ROIAlignRotated RoIPool assert_fx_safe cat is_fx_tracing nonzero_tuple "
        "shapes_to_tensor"
    ),
    "modeling.postprocessing": "Instances ROIMasks",
    "modeling.proposal_generator.build": "Registry",
    "modeling.proposal_generator.proposal_utils": (
        "Boxes Instances batched_nms cat move_device_like"
    ),
    "modeling.proposal_generator.rpn": (
        "Box2BoxTransform Boxes Conv2d ImageList Instances Matcher PROPOSAL_GENERATOR_REGISTRY "
        "Registry ShapeSpec _dense_box_regression_loss build_anchor_generator cat configurable "
        "find_top_rpn_proposals get_event_storage pairwise_iou retry_if_cuda_oom subsample_labels"
    ),
    "modeling.proposal_generator.rrpn": (
        "Box2BoxTransformRotated Instances PROPOSAL_GENERATOR_REGISTRY RPN RotatedBoxes ShapeSpec "
        "batched_nms_rotated cat configurable pairwise_iou_rotated retry_if_cuda_oom"
    ),
    "modeling.roi_heads.box_head": "Conv2d Registry ShapeSpec configurable get_norm",
    "modeling.roi_heads.cascade_rcnn": (
        "Box2BoxTransform Boxes FastRCNNOutputLayers Instances Matcher ROIPooler "
        "ROI_HEADS_REGISTRY ShapeSpec StandardROIHeads build_box_head configurable "
        "fast_rcnn_inference get_event_storage pairwise_iou"
    ),
    "modeling.roi_heads.fast_rcnn": (
        "Box2BoxTransform Boxes Instances ShapeSpec _dense_box_regression_loss batched_nms cat "
        "configurable cross_entropy get_event_storage get_fed_loss_cls_weights giou_loss "
        "nonzero_tuple smooth_l1_loss"
    ),
    "modeling.roi_heads.keypoint_head": (
        "Conv2d ConvTranspose2d Instances Registry assert_fx_safe cat configurable "
        "get_event_storage heatmaps_to_keypoints interpolate"
    ),
    "modeling.roi_heads.mask_head": (
        "Conv2d ConvTranspose2d Instances Registry ShapeSpec cat configurable get_event_storage "
        "get_norm move_device_like"
    ),
    "modeling.roi_heads.roi_heads": (
        "BottleneckBlock Boxes FastRCNNOutputLayers ImageList Instances Matcher ROIPooler "
        "Registry ResNet ShapeSpec add_ground_truth_to_proposals build_box_head "
        "build_keypoint_head build_mask_head configurable get_event_storage nonzero_tuple "
        "pairwise_iou subsample_labels"
    ),
    "modeling.roi_heads.rotated_fast_rcnn": (
        "Box2BoxTransformRotated FastRCNNOutputLayers Instances ROIPooler ROI_HEADS_REGISTRY "
        "RotatedBoxes ShapeSpec StandardROIHeads add_ground_truth_to_proposals "
        "batched_nms_rotated build_box_head configurable get_event_storage pairwise_iou_rotated"
    ),
    "modeling.sampling": "nonzero_tuple",
    "modeling.test_time_augmentation": (
        "Boxes DistributedDataParallel GeneralizedRCNN HFlipTransform Instances NoOpTransform "
        "RandomFlip ResizeShortestEdge ResizeTransform apply_augmentations configurable "
        "detector_postprocess fast_rcnn_inference_single_image read_image"
    ),
    "solver.build": (
        "CfgNode CosineParamScheduler LRMultiplier LRScheduler MultiStepParamScheduler "
        "ParamScheduler StepWithFixedGammaParamScheduler TORCH_VERSION WarmupParamScheduler"
    ),
    "solver.lr_scheduler": (
        "CompositeParamScheduler ConstantParamScheduler LinearParamScheduler ParamScheduler"
    ),
    "structures.boxes": "",
    "structures.image_list": "move_device_like shapes_to_tensor",
    "structures.instances": "",
    "structures.keypoints": "interpolate",
    "structures.masks": "Boxes ROIAlign move_device_like retry_if_cuda_oom",
    "structures.rotated_boxes": "Boxes pairwise_iou_rotated",
    "tracking.base_tracker": "Instances Registry configurable",
    "tracking.bbox_iou_tracker": (
        "BaseTracker Boxes CfgNode Instances TRACKER_HEADS_REGISTRY configurable "
        "create_prediction_pairs pairwise_iou"
    ),
    "tracking.hungarian_tracker": "BaseTracker Boxes CfgNode Instances configurable",
    "tracking.iou_weighted_hungarian_bbox_iou_tracker": (
        "CfgNode TRACKER_HEADS_REGISTRY VanillaHungarianBBoxIOUTracker configurable"
    ),
    "tracking.utils": "Instances",
    "tracking.vanilla_hungarian_bbox_iou_tracker": (
        "BaseHungarianTracker CfgNode Instances LARGE_COST_VALUE TRACKER_HEADS_REGISTRY "
        "configurable create_prediction_pairs pairwise_iou"
    ),
    "utils.analysis": "BitMasks Boxes ImageList Instances",
    "utils.collect_env": "tabulate",
    "utils.colormap": "",
    "utils.comm": "",
    "utils.develop": "",
    "utils.env": "",
    "utils.events": "HistoryBuffer PathManager",
    "utils.file_io": "HTTPURLHandler OneDrivePathHandler",
    "utils.logger": "PathManager colored tabulate",
    "utils.memory": "",
    "utils.registry": "",
    "utils.serialize": "",
    "utils.testing": (
        "Boxes CfgNode DatasetCatalog Instances LazyConfig ROIMasks instantiate read_image"
    ),
    "utils.torch_version_utils": "",
    "utils.tracing": "",
    "utils.video_visualizer": (
        "ColorMode Visualizer _PanopticPrediction _create_text_labels colormap random_color"
    ),
    "utils.visualizer": (
        "BitMasks BoxMode Boxes Keypoints MetadataCatalog PathManager PolygonMasks RotatedBoxes "
        "colormap random_color"
    ),
}

_C_EXTENSION = (
    "d2lite has no C++ extension. Its operators are in d2lite.layers (nms, batched_nms_rotated, "
    "ROIAlign, ROIAlignRotated, DeformConv, ModulatedDeformConv, pairwise_iou_rotated), and the "
    "COCO evaluation is d2lite.evaluation.fast_eval_api.COCOeval_opt"
)
_TORCHSCRIPT = (
    "it is for TorchScript, which torch.export replaces; use "
    "d2lite.export.export_program(model, inputs), whose result saves as .pt2 and as ONNX"
)
_CAFFE2 = (
    "it is for Caffe2, which no longer exists; use d2lite.export.export_program(model, inputs) "
    "and save_onnx of its result"
)

# Path of a module or name -> why it does not exist here and what to use instead.
GONE: dict[str, str] = {
    "_C": _C_EXTENSION,
    **dict.fromkeys(("export.torchscript", "export.torchscript_patch"), _TORCHSCRIPT),
    **dict.fromkeys(
        (f"export.{name}" for name in ("dump_torchscript_IR", "scripting_with_instances")),
        _TORCHSCRIPT,
    ),
    **dict.fromkeys(
        (
            f"utils.testing.{name}"
            for name in (
                "_pytorch1111_symbolic_opset9_repeat_interleave",
                "_pytorch1111_symbolic_opset9_to",
                "convert_scripted_instances",
                "register_custom_op_onnx_export",
                "reload_script_model",
                "unregister_custom_op_onnx_export",
            )
        ),
        _TORCHSCRIPT,
    ),
    **dict.fromkeys(
        (
            f"export.{name}"
            for name in (
                "api",
                "c10",
                "caffe2_export",
                "caffe2_inference",
                "caffe2_modeling",
                "caffe2_patch",
                "shared",
                "Caffe2Model",
                "Caffe2Tracer",
                "export_caffe2_model",
                "export_onnx_model",
            )
        ),
        _CAFFE2,
    ),
}


def reason_it_is_gone(path: str) -> str | None:
    """Return why a module or a name is not supported, or None if it is not listed in GONE."""
    return GONE.get(path)


def old_modules(path: str) -> list[str]:
    """Return the paths by which programs for detectron2 know a module of d2lite, the new one first.

    Args:
        path: of the module here, without the package.
    """
    return [path, *(old for old, new in MOVED_MODULES.items() if new == path)]


def new_module(path: str) -> str | None:
    """Return the full new name of a module of detectron2 if it has moved here."""
    return _full(MOVED_MODULES[path]) if path in MOVED_MODULES else None


def target(module: str, name: str) -> str | None:
    """Return where a name of detectron2's `module` is, or None if the module does not have it.

    Args:
        module: path without the package, old or new.
    Returns:
        "module:attribute" with the full name of the module, or the full name of a module.
    """
    modules = old_modules(module)
    for old in modules:
        if name in MOVED.get(old, {}):
            return _full(MOVED[old][name])
    imported = [IMPORTED[old] for old in modules if old in IMPORTED]
    if not imported:
        return None
    if name in _STANDARD_LIBRARY.split():
        return name
    if name in MODULES:
        return _full(MODULES[name])
    if name not in " ".join(imported).split():
        return None
    home = next(home for home, names in HOMES.items() if name in names.split())
    return None if home == module else f"{_full(home)}:{name}"


def _full(path: str) -> str:
    if path.startswith("."):
        return path[1:]
    if path.startswith("old."):
        path = f"compat.{path}"
    return f"{PACKAGE}.{path}"
