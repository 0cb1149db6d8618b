"""Windows and position embeddings, by hand."""

import pytest
import torch

from d2lite.modeling.backbone.utils import (
    PatchEmbed,
    add_decomposed_rel_pos,
    get_abs_pos,
    get_rel_pos,
    window_partition,
    window_unpartition,
)


@pytest.mark.parametrize("hw", [(4, 6), (5, 7), (1, 1)])
def test_windows_are_undone(hw: tuple[int, int]):
    x = torch.randn(2, *hw, 3)
    windows, padded = window_partition(x, 3)
    assert padded == (-(-hw[0] // 3) * 3, -(-hw[1] // 3) * 3)
    assert windows.shape == (2 * padded[0] * padded[1] // 9, 3, 3, 3)
    assert torch.equal(window_unpartition(windows, 3, padded, hw), x)


def test_the_second_window_lies_to_the_right():
    x = torch.arange(16.0).view(1, 4, 4, 1)
    windows, _ = window_partition(x, 2)
    assert windows[1].flatten().tolist() == [2, 3, 6, 7]


def test_relative_positions_count_from_the_query_to_the_key():
    table = torch.arange(5.0)[:, None]  # distance -2 .. 2
    expected = [[2, 1, 0], [3, 2, 1], [4, 3, 2]]  # index = query - key + 2
    assert get_rel_pos(3, 3, table)[..., 0].tolist() == expected


def test_fewer_keys_take_larger_steps():
    table = torch.arange(7.0)[:, None]
    # keys lie at 0 and 2 in units of queries
    expected = [[2, 0], [3, 1], [4, 2], [5, 3]]
    assert get_rel_pos(4, 2, table)[..., 0].tolist() == expected


def test_tables_of_another_size_are_resized():
    table = torch.arange(3.0)[:, None].repeat(1, 2)
    assert get_rel_pos(4, 4, table).shape == (4, 4, 2)


def test_decomposed_positions_add_a_row_and_a_column_term():
    q = torch.randn(2, 6, 5)  # a grid of 2 x 3
    rel_h, rel_w = torch.randn(3, 5), torch.randn(5, 5)
    got = add_decomposed_rel_pos(torch.zeros(2, 6, 6), q, rel_h, rel_w, (2, 3), (2, 3))
    for i in range(6):
        for j in range(6):
            row, column = i // 3 - j // 3 + 1, i % 3 - j % 3 + 2
            expected = q[:, i] @ (rel_h[row] + rel_w[column])
            torch.testing.assert_close(got[:, i, j], expected)


def test_absolute_positions_of_the_same_grid_are_kept():
    table = torch.randn(1, 10, 4)
    got = get_abs_pos(table, True, (3, 3))
    assert torch.equal(got, table[:, 1:].view(1, 3, 3, 4))
    assert get_abs_pos(table, True, (5, 7)).shape == (1, 5, 7, 4)


def test_absolute_positions_must_form_a_square():
    with pytest.raises(ValueError, match="10 position embeddings"):
        get_abs_pos(torch.zeros(1, 10, 4), False, (3, 3))


def test_patches_become_channels_last():
    embed = PatchEmbed(kernel_size=(4, 4), stride=(4, 4), in_chans=3, embed_dim=6)
    assert embed(torch.zeros(2, 3, 8, 12)).shape == (2, 2, 3, 6)
