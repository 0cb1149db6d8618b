"""The content of a small COCO file."""

SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]


def example():
    """Two images, the later id first; categories with a gap in their ids."""
    return {
        "images": [
            {"id": 7, "file_name": "b.jpg", "height": 40, "width": 60},
            {"id": 3, "file_name": "a.jpg", "height": 50, "width": 50},
        ],
        "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 9,
                "bbox": [10, 10, 20, 20],
                "iscrowd": 0,
                "segmentation": [SQUARE, [1, 2, 3, 4]],
                "keypoints": [0, 5, 2, 8, 9, 0],
                "score": 0.5,
            },
            {"id": 2, "image_id": 7, "category_id": 4, "bbox": [0, 0, 5.5, 6], "iscrowd": 1},
        ],
    }
