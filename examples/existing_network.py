"""Networks that no one here wrote become search spaces: five changed lines each.

Two networks of MONAI and one of torch itself, each as it was (`..._before`) and as a space. Then
a few architectures of each are trained on handwritten digits of 8 x 8 pixels.

    python examples/existing_network.py       # some seconds on a CPU

Needs `pip install "symnas[monai,train]"`.
"""

from __future__ import annotations

import torch
from monai.networks.nets import FullyConnectedNet, ResNet

import symnas as sn
from symnas import algorithms as alg
from symnas.data import digits


# (a) A whole network, by `sn.spec`: its class stays untouched.
def resnet_before():
    return ResNet(
        "basic",
        layers=[1, 1, 1, 1],
        block_inplanes=[8, 16, 32, 64],
        spatial_dims=2,
        n_input_channels=1,
        conv1_t_size=3,
        no_max_pool=True,
        num_classes=10,
    )


@sn.space(input=(1, 8, 8))
def resnet():
    return sn.spec(
        ResNet,
        "basic",
        layers=[sn.intv(1, 2) for _ in range(4)],
        block_inplanes=[sn.oneof([8, 12, 16]), sn.oneof([16, 24]), 32, sn.oneof([48, 64])],
        spatial_dims=2,
        n_input_channels=1,
        conv1_t_size=3,
        no_max_pool=True,
        num_classes=10,
    )


# (b) A class that is decorated after the fact: plain calls still make plain networks.
def perceptron_before():
    return FullyConnectedNet(
        in_channels=64,
        out_channels=10,
        hidden_channels=[64, 64],
        dropout=0.1,
        act="relu",
    )


sn.symbolize(FullyConnectedNet)


@sn.space(input=(1, 8, 8))
def perceptron():
    return FullyConnectedNet(
        in_channels=64,
        out_channels=10,
        hidden_channels=[sn.oneof([32, 64, 128]), sn.oneof([32, 64, 128])],
        dropout=0.1,
        act=sn.oneof(["relu", "gelu", "prelu"]),
    )


# (c) Torch's own layers, from `sn.nn` instead of `torch.nn`: each row of pixels is a token.
def transformer_before(nn=torch.nn):
    width = 32
    layers = [nn.TransformerEncoderLayer(width, 4, 64, batch_first=True) for _ in range(2)]
    return nn.Sequential(
        nn.Flatten(1, 2),
        nn.Linear(8, width),
        nn.Sequential(*layers),
        nn.Flatten(),
        nn.Linear(8 * width, 10),
    )


@sn.space(input=(1, 8, 8))
def transformer(nn=sn.nn):
    width = sn.oneof([16, 32, 48], name="width")
    layer = nn.TransformerEncoderLayer(width, sn.oneof([2, 4, 8]), 64, batch_first=True)
    return nn.Sequential(
        nn.Flatten(1, 2),
        nn.Linear(8, width),
        sn.repeat(layer, sn.intv(1, 3)),
        nn.Flatten(),
        nn.Linear(8 * width, 10),
    )


def main(trials: int = 3, epochs: int = 6) -> dict[str, float]:
    """Trains `trials` random architectures of each space; returns the best accuracies."""
    data = digits()
    task = sn.Task(data.train, epochs=epochs, lr=3e-3)
    best = {}
    for space in (resnet(), perceptron(), transformer()):
        print(space)
        study = sn.search(
            space, alg.RandomSearch(), task, maximize="accuracy", trials=trials, progress=False
        )
        best[space.name] = study.best.metrics["accuracy"]
        print(f"  best of {trials}: {best[space.name]:.1%}", dict(study.best.choices))
    return best


if __name__ == "__main__":
    torch.set_num_threads(1)  # in networks this small, threads mostly wait for one another
    main()
