"""The model, each site's data, and how they are trained and tested: plain PyTorch."""

from __future__ import annotations

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

#: Digits that sites train on; the others are public, and what models are tested on.
TRAINED = 1400


class Net(nn.Module):
    """A small convolutional net for pictures of 8 by 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.head = nn.Linear(16 * 4 * 4, 10)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return logits, [n, 10]."""
        seen = functional.max_pool2d(torch.relu(self.norm(self.conv(pictures))), 2)
        return self.head(seen.flatten(1))


def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    pictures, labels = load_digits(return_X_y=True)
    scaled = torch.tensor(pictures / 16.0, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return scaled, torch.tensor(labels, dtype=torch.long)


def load_data(context: Context) -> DataLoader:
    """Return this site's own digits."""
    number = int(context.node_config["partition-id"])
    sites = int(context.node_config["num-partitions"])
    pictures, labels = _digits()
    own = TensorDataset(pictures[:TRAINED][number::sites], labels[:TRAINED][number::sites])
    return DataLoader(own, batch_size=int(context.run_config["batch-size"]), shuffle=True)


def train(message: Message, context: Context) -> Message:
    """Train for an epoch on this site's digits, as the server asks."""
    net, data = Net(), load_data(context)
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(net.parameters(), lr=float(context.run_config["learning-rate"]))
    for pictures, labels in data:
        optimizer.zero_grad()
        functional.cross_entropy(net(pictures), labels).backward()
        optimizer.step()
    metrics = MetricRecord({"num-examples": len(data.dataset)})
    arrays = ArrayRecord(net.state_dict())
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def test(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """Measure a model on the public digits."""
    net = Net()
    net.load_state_dict(arrays.to_torch_state_dict())
    pictures, labels = _digits()
    with torch.no_grad():
        right = net(pictures[TRAINED:]).argmax(dim=1) == labels[TRAINED:]
    return MetricRecord({"accuracy": float(right.float().mean())})
