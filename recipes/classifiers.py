"""Train the small classifier that drawn digits, or drawn clothes, are measured by, and write its weights.

    python recipes/classifiers.py digits [--epochs 12] [--seed 0] [--out FILE]
    python recipes/classifiers.py fashion

Adam 1e-3 down to nothing by a cosine, batches of 128, images shifted by up to two pixels, clothes also mirrored, in
float32 on one thread so that two runs on one machine give one file. Takes a few minutes. Prints the accuracy on the
test set and the hash to be written into `elegan/embedders/digits_cnn.py` or `fashion_cnn.py`.
"""

import argparse
import hashlib
import math
from pathlib import Path

import torch
from safetensors.torch import save
from torch.nn import functional as F

from elegan.data.sources import open_data
from elegan.embedders import digits_cnn, fashion_cnn
from elegan.embedders.small_cnn import SmallCNN

BATCH, RATE, SHIFT = 128, 1e-3, 2
WEIGHTS = {"digits": digits_cnn.WEIGHTS, "fashion": fashion_cnn.WEIGHTS}
MIRRORED = ("fashion",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", choices=WEIGHTS)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="beside the embedder, unless given")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(asked.seed)
    source = open_data(asked.data)
    images, labels = torch.from_numpy(source.arrays["real"]), torch.from_numpy(source.arrays["label"]).long()
    net = SmallCNN(asked.data)
    optimiser = torch.optim.Adam(net.parameters(), RATE)
    total, step = asked.epochs * math.ceil(len(images) / BATCH), 0
    for epoch in range(asked.epochs):
        for rows in torch.randperm(len(images)).split(BATCH):
            for group in optimiser.param_groups:
                group["lr"] = RATE * (1 + math.cos(math.pi * step / total)) / 2
            seen = shifted(images[rows])
            seen = mirrored(seen) if asked.data in MIRRORED else seen
            loss = F.cross_entropy(net(seen), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
        print(f"epoch {epoch + 1}: {accuracy(net, asked.data):.2%} of the test set", flush=True)
    content = save({name: tensor.contiguous() for name, tensor in net.state_dict().items()})
    out = asked.out or WEIGHTS[asked.data]
    out.write_bytes(content)
    print(f'{out}: {len(content):,} bytes\nSHA256 = "{hashlib.sha256(content).hexdigest()}"')


def shifted(images: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 1, 28, 28) -> float in [-1, 1], each moved by up to two pixels each way over black."""
    wide = F.pad(images.float() / 127.5 - 1, [SHIFT] * 4, value=-1.0)
    y, x = torch.randint(2 * SHIFT + 1, (2, len(images), 1, 1))
    rows, columns = torch.arange(28)[None, :, None] + y, torch.arange(28)[None, None, :] + x
    return wide[:, 0][torch.arange(len(images))[:, None, None], rows, columns][:, None]


def mirrored(seen: torch.Tensor) -> torch.Tensor:
    """Each image (B, 1, H, W), left and right exchanged in half of them."""
    return torch.where(torch.rand(len(seen), 1, 1, 1) < 0.5, seen.flip(3), seen)


def accuracy(net: SmallCNN, data: str) -> float:
    """The share of the test set that is classified rightly."""
    test = open_data(data, split="test")
    return float((net.embed(test.arrays["real"])[1].argmax(1) == test.arrays["label"]).mean())


if __name__ == "__main__":
    main()
