"""Random validation splits that depend only on the data, the share and the seed."""

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from d2lite.data.layouts.labeled import LabeledImages
from d2lite.utils.errors import ArgumentError

# Roboflow names augmented copies of a photograph after the photograph, plus a hash.
_COPY = re.compile(r"\.rf\.[0-9a-z]{16,}$", re.IGNORECASE)


def split_records(
    data: LabeledImages, records: Sequence[dict], share: float, seed: int
) -> tuple[list[dict], list[dict]]:
    """Split dataset dicts into a training and a held-out part, keeping their order.

    Each class with at least two images is in both parts. Copies of one image (files of the same
    content, and Roboflow's augmented copies) stay in the same part.

    Args:
        data: gives the relative paths that determine the order, so the location of the folder does
            not matter.
        share: share of the images to hold out, above 0 and below 1; at least one is held out.
        seed: each seed gives another split.
    Raises:
        ArgumentError: `share` is out of range, or there are fewer than two different images.
    """
    if not 0 < share < 1:
        raise ArgumentError(f"the share of a split must be above 0 and below 1, found {share}")
    groups = _copies(data, records, seed)
    if len(groups) < 2:
        raise ArgumentError(
            f"{data.root}: {len(records)} images cannot be split into two parts; there must be two "
            "that are not copies of each other"
        )
    classes = [
        {a["category_id"] for i in group for a in records[i]["annotations"]} for group in groups
    ]
    having = defaultdict(list)
    for number, found in enumerate(classes):
        for category in found:
            having[category].append(number)
    left = {category: len(numbers) for category, numbers in having.items()}  # not held out yet
    held: set[int] = set()

    def hold_out(number: int, *, singles: bool = False) -> bool:
        """Hold a group out unless a class would then be missing in training.

        singles: classes that only this group has do not count.
        """
        needed = [c for c in classes[number] if not (singles and len(having[c]) == 1)]
        if number in held or any(left[category] <= 1 for category in needed):
            return False
        for category in classes[number]:
            left[category] -= 1
        held.add(number)
        return True

    # Rare classes first: few images have them.
    for category, numbers in sorted(having.items(), key=lambda item: (len(item[1]), item[0])):
        wanted = max(1, round(share * len(numbers))) if len(numbers) > 1 else 0
        for number in numbers:
            if len(numbers) - left[category] < wanted:
                hold_out(number)
        if wanted and len(numbers) == left[category]:
            any(hold_out(number, singles=True) for number in numbers)
    wanted = min(max(1, round(share * len(records))), len(records) - 1)
    count = sum(len(groups[number]) for number in held)
    for number in range(len(groups)):
        if count >= wanted:
            break
        if len(held) < len(groups) - 1 and hold_out(number):
            count += len(groups[number])
    if not held:  # every image has the only example of something
        held.add(0)
    chosen = {i for number in held for i in groups[number]}
    return (
        [record for i, record in enumerate(records) if i not in chosen],
        [record for i, record in enumerate(records) if i in chosen],
    )


def _copies(data: LabeledImages, records: Sequence[dict], seed: int) -> list[list[int]]:
    """Return the indices of the records, with copies grouped, in an order drawn by the seed."""
    names = [data.relative(record) for record in records]
    bytes_of = [os.path.getsize(record["file_name"]) for record in records]
    repeated = Counter(bytes_of)
    same_as = list(range(len(records)))  # an earlier copy, or itself

    def first_copy(index: int) -> int:
        while same_as[index] != index:
            index = same_as[index]
        return index

    seen: dict[str, int] = {}
    for index, record in enumerate(records):
        keys = [f"name {_COPY.sub('', os.path.splitext(names[index])[0])}"]
        if repeated[bytes_of[index]] > 1:  # only these can have equal content
            keys.append(f"content {file_hash(record['file_name'])}")
        for key in keys:
            one, other = first_copy(seen.setdefault(key, index)), first_copy(index)
            same_as[max(one, other)] = min(one, other)
    groups = defaultdict(list)
    for index in range(len(records)):
        groups[first_copy(index)].append(index)

    def drawn(group: list[int]) -> str:
        name = min(names[index] for index in group)
        return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()

    return sorted(groups.values(), key=drawn)


def file_hash(path: str) -> str:
    """Return the SHA-256 of a file's content."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
