"""A trainer of a tiny model, and a checkpointer that records what it is asked to save."""

import itertools

import torch
from torch import nn

from d2lite.engine import SimpleTrainer


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def forward(self, x):
        return {"loss": self.norm(x).square().sum()}


def make_trainer(*registered):
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = itertools.repeat(torch.tensor([[1.0], [3.0]]))
    trainer = SimpleTrainer(model, data, optimizer)
    trainer.register_hooks(registered)
    return trainer


class FakeCheckpointer:
    def __init__(self, folder):
        self.save_dir = str(folder)
        self.saved = []
        self.path_manager = None

    def save(self, name, **extra):
        self.saved.append((name, extra))

    def get_checkpoint_file(self):
        return f"{self.saved[-1][0]}.pth"
