"""Metadata of the built-in datasets: classes, ids, colors, keypoints."""

from functools import partial
from typing import Any

# Id in the files, color (RGB), name. The ids have gaps: COCO dropped some of its categories.
_COCO_THINGS = """
1 dc143c person; 2 770b20 bicycle; 3 00008e car; 4 0000e6 motorcycle; 5 6a00e4 airplane;
6 003c64 bus; 7 005064 train; 8 000046 truck; 9 0000c0 boat; 10 faaa1e traffic light;
11 64aa1e fire hydrant; 13 dcdc00 stop sign; 14 af74af parking meter; 15 fa001e bench;
16 a52a2a bird; 17 ff4dff cat; 18 00e2fc dog; 19 b6b6ff horse; 20 005200 sheep; 21 78a69d cow;
22 6e4c00 elephant; 23 ae39ff bear; 24 c76400 zebra; 25 480076 giraffe; 27 ffb3f0 backpack;
28 007d5c umbrella; 31 d10097 handbag; 32 bcd0b6 tie; 33 00dcb0 suitcase; 34 ff63a4 frisbee;
35 5c0049 skis; 36 8581ff snowboard; 37 4eb4ff sports ball; 38 00e400 kite;
39 aefff3 baseball bat; 40 2d59ff baseball glove; 41 868667 skateboard; 42 9194ae surfboard;
43 ffd0ba tennis racket; 44 c5e2ff bottle; 46 ab8601 wine glass; 47 6d3f36 cup; 48 cf8aff fork;
49 97005f knife; 50 09503d spoon; 51 546933 bowl; 52 4a4169 banana; 53 a6c466 apple;
54 d0c3d2 sandwich; 55 ff6d41 orange; 56 008f95 broccoli; 57 b300c2 carrot; 58 d1636a hot dog;
59 057900 pizza; 60 e3ffcd donut; 61 93bad0 cake; 62 994501 chair; 63 035fa1 couch;
64 a3ff00 potted plant; 65 7700aa bed; 67 00b6c7 dining table; 70 00a578 toilet; 72 b78258 tv;
73 5f2000 laptop; 74 827287 mouse; 75 6e8185 remote; 76 a64a76 keyboard; 77 db8eb9 cell phone;
78 4fd272 microwave; 79 b25a3e oven; 80 41460f toaster; 81 7fa773 sink; 82 3b696a refrigerator;
84 8e6c2d book; 85 c4ac00 clock; 86 5f3650 vase; 87 804cff scissors; 88 c93901 teddy bear;
89 f6007a hair drier; 90 bfa2d0 toothbrush
"""

# Those of the panoptic task, where COCO merged some of its 91 stuff categories.
_COCO_STUFF = """
92 ffff80 banner; 93 93d3cb blanket; 95 966464 bridge; 100 a8abac cardboard;
107 9270c6 counter; 109 d2aa64 curtain; 112 5c8859 door-stuff; 118 da58b8 floor-wood;
119 f18100 flower; 122 d911ff fruit; 125 7c4ab5 gravel; 128 464646 house; 130 ffe4ff light;
133 9ad000 mirror-stuff; 138 c1005c net; 141 4c5b71 pillow; 144 ffb4c3 platform;
145 6a9ab0 playingfield; 147 e6968c railroad; 148 3c8fff river; 149 804080 road;
151 5c5237 roof; 154 fed47c sand; 155 494dae sea; 156 ffa062 shelf; 159 ffffff snow;
161 68546d stairs; 166 a9a483 tent; 168 e1c7ff towel; 171 89364a wall-brick;
175 879edf wall-stone; 176 07f6e7 wall-tile; 177 6bffc8 wall-wood; 178 3a2995 water-other;
180 b7798e window-blind; 181 ff4961 window-other; 184 6b8e23 tree-merged;
185 be9999 fence-merged; 186 928b8d ceiling-merged; 187 4682b4 sky-other-merged;
188 86c79c cabinet-merged; 189 d1e28c table-merged; 190 60246c floor-other-merged;
191 606060 pavement-merged; 192 40aa40 mountain-merged; 193 98fb98 grass-merged;
194 d0e5e4 dirt-merged; 195 cebaab paper-merged; 196 98a140 food-other-merged;
197 747000 building-other-merged; 198 00728f rock-merged; 199 66669c wall-other-merged;
200 fa8dff rug-merged
"""


def _coco_categories(table: str, isthing: int) -> list[dict[str, Any]]:
    rows = [row.split(maxsplit=2) for row in " ".join(table.split()).split(";")]
    return [
        {
            "color": list(bytes.fromhex(color)),
            "isthing": isthing,
            "id": int(category_id),
            "name": name,
        }
        for category_id, color, name in rows
    ]


COCO_CATEGORIES = _coco_categories(_COCO_THINGS, 1) + _coco_categories(_COCO_STUFF, 0)

COCO_PERSON_KEYPOINT_NAMES = (
    "nose",
    *("left_eye", "right_eye", "left_ear", "right_ear"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)

# What becomes what when the picture is mirrored.
COCO_PERSON_KEYPOINT_FLIP_MAP = tuple(
    (name, name.replace("left", "right"))
    for name in COCO_PERSON_KEYPOINT_NAMES
    if name.startswith("left")
)

# Lines to draw between keypoints: from, to, color (RGB).
KEYPOINT_CONNECTION_RULES = [
    ("left_ear", "left_eye", (102, 204, 255)),
    ("right_ear", "right_eye", (51, 153, 255)),
    ("left_eye", "nose", (102, 0, 204)),
    ("nose", "right_eye", (51, 102, 255)),
    ("left_shoulder", "right_shoulder", (255, 128, 0)),
    ("left_shoulder", "left_elbow", (153, 255, 204)),
    ("right_shoulder", "right_elbow", (128, 229, 255)),
    ("left_elbow", "left_wrist", (153, 255, 153)),
    ("right_elbow", "right_wrist", (102, 255, 224)),
    ("left_hip", "right_hip", (255, 102, 0)),
    ("left_hip", "left_knee", (255, 255, 77)),
    ("right_hip", "right_knee", (153, 255, 204)),
    ("left_knee", "left_ankle", (191, 255, 128)),
    ("right_knee", "right_ankle", (255, 195, 77)),
]

# Cityscapes' 19 evaluated classes.
CITYSCAPES_CATEGORIES = [
    dict(zip(("id", "trainId", "isthing", "name", "color"), row, strict=True))
    for row in (
        (7, 0, 0, "road", (128, 64, 128)),
        (8, 1, 0, "sidewalk", (244, 35, 232)),
        (11, 2, 0, "building", (70, 70, 70)),
        (12, 3, 0, "wall", (102, 102, 156)),
        (13, 4, 0, "fence", (190, 153, 153)),
        (17, 5, 0, "pole", (153, 153, 153)),
        (19, 6, 0, "traffic light", (250, 170, 30)),
        (20, 7, 0, "traffic sign", (220, 220, 0)),
        (21, 8, 0, "vegetation", (107, 142, 35)),
        (22, 9, 0, "terrain", (152, 251, 152)),
        (23, 10, 0, "sky", (70, 130, 180)),
        (24, 11, 1, "person", (220, 20, 60)),
        (25, 12, 1, "rider", (255, 0, 0)),
        (26, 13, 1, "car", (0, 0, 142)),
        (27, 14, 1, "truck", (0, 0, 70)),
        (28, 15, 1, "bus", (0, 60, 100)),
        (31, 16, 1, "train", (0, 80, 100)),
        (32, 17, 1, "motorcycle", (0, 0, 230)),
        (33, 18, 1, "bicycle", (119, 11, 32)),
    )
]

_ADE20K_NAMES = """
wall; building; sky; floor; tree; ceiling; road, route; bed; window; grass; cabinet;
sidewalk, pavement; person; earth, ground; door; table; mountain, mount; plant; curtain; chair;
car; water; painting, picture; sofa; shelf; house; sea; mirror; rug; field; armchair; seat;
fence; desk; rock, stone; wardrobe, closet, press; lamp; tub; rail; cushion;
base, pedestal, stand; box; column, pillar; signboard, sign;
chest of drawers, chest, bureau, dresser; counter; sand; sink; skyscraper; fireplace;
refrigerator, icebox; grandstand, covered stand; path; stairs; runway;
case, display case, showcase, vitrine; pool table, billiard table, snooker table; pillow;
screen door, screen; stairway, staircase; river; bridge, span; bookcase; blind, screen;
coffee table; toilet, can, commode, crapper, pot, potty, stool, throne; flower; book; hill;
bench; countertop; stove; palm, palm tree; kitchen island; computer; swivel chair; boat; bar;
arcade machine; hovel, hut, hutch, shack, shanty; bus; towel; light; truck; tower; chandelier;
awning, sunshade, sunblind; street lamp; booth; tv; plane; dirt track; clothes; pole;
land, ground, soil; bannister, banister, balustrade, balusters, handrail;
escalator, moving staircase, moving stairway; ottoman, pouf, pouffe, puff, hassock; bottle;
buffet, counter, sideboard; poster, posting, placard, notice, bill, card; stage; van; ship;
fountain; conveyer belt, conveyor belt, conveyer, conveyor, transporter; canopy;
washer, automatic washer, washing machine; plaything, toy; pool; stool; barrel, cask;
basket, handbasket; falls; tent; bag; minibike, motorbike; cradle; oven; ball;
food, solid food; step, stair; tank, storage tank; trade name; microwave; pot; animal; bicycle;
lake; dishwasher; screen; blanket, cover; sculpture; hood, exhaust hood; sconce; vase;
traffic light; tray; trash can; fan; pier; crt screen; plate; monitor; bulletin board; shower;
radiator; glass, drinking glass; clock; flag
"""
# "window " ends in a space in the names that released models and their users have.
ADE20K_SEM_SEG_CATEGORIES = [
    "window " if name == "window" else name
    for name in map(str.strip, " ".join(_ADE20K_NAMES.split()).split(";"))
]


def get_builtin_metadata(kind: str) -> dict[str, Any]:
    """Return the metadata shared by the datasets of one kind, in new containers.

    Args:
        kind: "coco", "coco_panoptic_separated", "coco_panoptic_standard", "coco_person" or
            "cityscapes".
    Raises:
        KeyError: the kind is unknown.
    """
    if kind not in _KINDS:
        raise KeyError(f"no built-in metadata for {kind!r}; there are: {', '.join(_KINDS)}")
    return _KINDS[kind]()


def _coco_instances() -> dict[str, Any]:
    things = [c for c in COCO_CATEGORIES if c["isthing"]]
    return {
        "thing_dataset_id_to_contiguous_id": {c["id"]: i for i, c in enumerate(things)},
        "thing_classes": [c["name"] for c in things],
        "thing_colors": [c["color"] for c in things],
    }


def _coco_panoptic_separated() -> dict[str, Any]:
    """Return metadata with separate stuff classes, of which 0 is all things (Panoptic FPN)."""
    stuff = [c for c in COCO_CATEGORIES if not c["isthing"]]
    names = [c["name"].replace("-other", "").replace("-merged", "") for c in stuff]
    return {
        "stuff_dataset_id_to_contiguous_id": {
            **{c["id"]: i + 1 for i, c in enumerate(stuff)},
            0: 0,
        },
        "stuff_classes": ["things", *names],
        "stuff_colors": [[82, 18, 128], *(c["color"] for c in stuff)],
        **_coco_instances(),
    }


def cityscapes_panoptic_meta() -> dict[str, Any]:
    """Return metadata of Cityscapes with one list of things and stuff, by training id."""
    return _counted_together(
        CITYSCAPES_CATEGORIES, {c["id"]: c["trainId"] for c in CITYSCAPES_CATEGORIES}
    )


def _counted_together(categories: list[dict], index: dict[int, int]) -> dict[str, Any]:
    names, colors = [c["name"] for c in categories], [c["color"] for c in categories]
    thing_ids = [c["id"] for c in categories if c["isthing"]]
    stuff_ids = [c["id"] for c in categories if not c["isthing"]]
    return {
        "thing_classes": names,
        "thing_colors": colors,
        "stuff_classes": list(names),
        "stuff_colors": list(colors),
        "thing_dataset_id_to_contiguous_id": {i: index[i] for i in thing_ids},
        "stuff_dataset_id_to_contiguous_id": {i: index[i] for i in stuff_ids},
    }


_KINDS = {
    "coco": _coco_instances,
    "coco_panoptic_separated": _coco_panoptic_separated,
    # Things and stuff are numbered together, from 0 to 132, and share one list of names.
    "coco_panoptic_standard": partial(
        _counted_together, COCO_CATEGORIES, {c["id"]: i for i, c in enumerate(COCO_CATEGORIES)}
    ),
    "coco_person": partial(
        dict,
        thing_classes=["person"],
        keypoint_names=COCO_PERSON_KEYPOINT_NAMES,
        keypoint_flip_map=COCO_PERSON_KEYPOINT_FLIP_MAP,
        keypoint_connection_rules=KEYPOINT_CONNECTION_RULES,
    ),
    "cityscapes": partial(
        dict,
        thing_classes=[c["name"] for c in CITYSCAPES_CATEGORIES if c["isthing"]],
        stuff_classes=[c["name"] for c in CITYSCAPES_CATEGORIES],
    ),
}
