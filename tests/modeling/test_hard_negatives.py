import torch

from d2lite.modeling.hard_negatives import hard_negatives


def test_hardest_background_is_chosen_in_each_image():
    negative = torch.tensor([[False, True, True, True, True, False], [True] * 6])
    loss = torch.tensor([[9.0, 0.1, 0.3, 0.2, 0.4, 8.0], [0.5, 0.1, 0.4, 0.3, 0.2, 0.0]])
    chosen = hard_negatives(loss, negative, torch.tensor([3, 1]))
    assert chosen.tolist() == [
        [False, False, True, True, True, False],
        [True, False, False, False, False, False],
    ]


def test_all_background_is_chosen_where_there_is_too_little():
    negative = torch.tensor([[False, False, True, False]])
    assert hard_negatives(torch.ones(1, 4), negative, torch.tensor([7])).equal(negative)


def test_none_is_chosen_where_none_is_wanted():
    negative = torch.ones(2, 3, dtype=torch.bool)
    assert not hard_negatives(torch.rand(2, 3), negative, torch.zeros(2)).any()


def test_as_many_as_wanted_where_all_losses_are_equal():
    negative = torch.ones(1, 5, dtype=torch.bool)
    assert hard_negatives(torch.ones(1, 5), negative, torch.tensor([2])).sum() == 2


def test_losses_of_no_anchors_choose_nothing():
    nothing = torch.zeros(2, 0)
    assert hard_negatives(nothing, nothing.bool(), torch.tensor([1, 1])).shape == (2, 0)
