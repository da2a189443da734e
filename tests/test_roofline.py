"""Rooflines and energies by table: laws of the formulas, and tables against single networks."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch
from symnas.cost_models.energy_table import TECHNOLOGIES, EnergyTable, table_pj
from symnas.cost_models.roofline import Level, Roofline, roofline_ms

import symnas as sn
from symnas.costs.record import pieces_of
from symnas.testing.costs import check_cost_model


def linear(inputs=64, outputs=64):
    return sn.Architecture(sn.nn.Linear(inputs, outputs, bias=False), input=(inputs,))


def conv(channels=8, size=16):
    layer = sn.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    return sn.Architecture(layer, input=(channels, size, size))


def space():
    width = sn.oneof([4, 8, 16])
    return sn.Space(
        sn.nn.Sequential(
            sn.nn.Conv2d(3, width, sn.oneof([1, 3]), padding=1),
            sn.nn.BatchNorm2d(width),
            sn.nn.ReLU(),
            sn.nn.AdaptiveAvgPool2d(1),
            sn.nn.Flatten(),
            sn.nn.Linear(width, 10),
        ),
        input=(3, 8, 8),
    )


class Residual(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(32, 32)

    def forward(self, x):
        return x + self.body(x)


# Roofline ---------------------------------------------------------------------------------------


def test_the_slower_roof_counts():
    macs, bytes_moved = 64 * 64, 4 * (64 * 64 + 64 + 64)
    by_arithmetic = Roofline(peak=1e3, bandwidth=1e12)(linear())
    by_memory = Roofline(peak=1e12, bandwidth=1e3)(linear())
    assert by_arithmetic == pytest.approx(macs)  # 1000 a second: milliseconds
    assert by_memory == pytest.approx(bytes_moved)
    assert Roofline(peak=1e3, bandwidth=1e3)(linear()) == max(by_arithmetic, by_memory)


def test_a_machine_twice_as_fast_takes_half_the_time():
    for net in (linear(), conv()):
        slow, fast = Roofline(1e9, 1e9), Roofline(2e9, 2e9)
        assert fast(net) == pytest.approx(slow(net) / 2)


def test_operations_between_layers_move_memory_and_can_be_fused():
    net = sn.Architecture(sn.spec(Residual), input=(32,))
    plain = Roofline(1e15, 1e3, elementwise="fused")(net)
    whole = Roofline(1e15, 1e3)(net)
    assert whole - plain == pytest.approx(3 * 32 * 4)  # x, the layer's output and their sum


def test_views_cost_nothing():
    net = sn.Architecture(sn.nn.Sequential(sn.nn.Flatten(), sn.nn.Identity()), input=(3, 4, 4))
    assert Roofline(1e9, 1e9, overhead=1.0)(net) == 0.0


def test_overhead_counts_once_an_operation():
    net = sn.Architecture(sn.nn.Sequential(*[sn.nn.ReLU() for _ in range(5)]), input=(4,))
    model = Roofline(1e9, 1e9)
    assert attrs.evolve(model, overhead=2.0)(net) - model(net) == pytest.approx(10.0)


def test_a_small_cache_moves_more_and_a_large_one_each_tensor_once():
    once = Roofline(1e18, 1e6)(conv())
    times = [Roofline(1e18, 1e6, cache=cache)(conv()) for cache in (64, 1e3, 1e9)]
    assert times[0] > times[1] >= times[2] == once
    # Four times the memory halves what passes (2 MACs / sqrt(S)).
    assert Roofline(1e18, 1e6, cache=256)(conv()) == pytest.approx(times[0] / 2)


def test_an_inner_level_adds_a_roof():
    slow_cache = Level(bandwidth=1.0)
    assert Roofline(1e18, 1e18, levels=[slow_cache])(conv()) > 1e3
    assert Roofline(1e18, 1e18, levels=[(1e18, 64.0)])(conv()) < 1e-6


def test_fewer_bits_move_less():
    assert Roofline(1e18, 1e6, bits=8)(conv()) == pytest.approx(Roofline(1e18, 1e6)(conv()) / 4)


def test_many_machines_are_priced_at_once_as_one_by_one():
    pieces = [piece for _, piece in pieces_of(conv())]
    model = Roofline(1e9, 1e9, cache=1e4, levels=[(1e10, 1e3)], overhead=0.01)
    macs, traffic, _ = model.counts(pieces)
    peaks = np.array([1e8, 1e9, 1e12])
    bandwidths = np.array([[1e9, 1e10], [1e7, 1e9], [1e9, 1e6]])
    together = roofline_ms(macs, traffic, peaks[:, None], bandwidths[:, None, :], 0.01)
    for machine, times in enumerate(together):
        alone = attrs.evolve(
            model,
            peak=peaks[machine],
            bandwidth=bandwidths[machine, 0],
            levels=[(bandwidths[machine, 1], 1e3)],
        )
        assert alone.price(pieces) == pytest.approx([times.sum()])


@pytest.mark.parametrize(
    "wrong",
    [
        {"peak": 0}, {"bandwidth": -1.0}, {"cache": 0}, {"overhead": -1}, {"levels": [(0.0, 1.0)]},
        {"elementwise": "free"}, {"bits": 0},
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError):
        Roofline(**{"peak": 1e9, "bandwidth": 1e9, **wrong})


# Energy by table --------------------------------------------------------------------------------


def test_energy_is_the_sum_of_its_parts():
    free = dict.fromkeys(("register_pj", "buffer_pj", "dram_pj"), 1e-30)
    model = EnergyTable(mac_pj=1.0, **free)
    assert model(linear()) == pytest.approx(64 * 64 * 1e-6)
    model = EnergyTable(mac_pj=1e-30, register_pj=1e-30, buffer_pj=1e-30, dram_pj=1.0)
    assert model(linear()) == pytest.approx(64 * 64 * 8 * 1e-6)  # the weights alone


def test_activations_leave_the_chip_only_if_they_do_not_fit():
    kilobyte = 8192
    prices = {"mac_pj": 0, "register_pj": 0, "buffer_pj": 0, "dram_pj": 1}
    numbers = {"bits": 8, "reuse": 16, **prices}
    fits = table_pj(0, 0, kilobyte, kilobyte, buffer_bits=2 * kilobyte, **numbers)
    spills = table_pj(0, 0, kilobyte, kilobyte, buffer_bits=2 * kilobyte - 1, **numbers)
    assert (float(fits), float(spills)) == (0, 2 * kilobyte)


def test_published_buffers_are_hit_and_those_between_lie_between():
    energy = [EnergyTable(buffer_kb=size).energies["buffer"] for size in (8, 16, 32, 128, 1024)]
    known = TECHNOLOGIES["45nm"].buffer
    assert energy == sorted(energy)
    assert [energy[0], energy[2], energy[4]] == pytest.approx(list(known.values()))


def test_more_bits_take_more_energy():
    energies = [EnergyTable(bits=bits)(conv()) for bits in (8, 16, 32)]
    assert energies == sorted(energies) and len(set(energies)) == 3


def test_elementwise_operations_are_free_unless_asked_for():
    net = sn.Architecture(sn.nn.Sequential(sn.nn.ReLU(), sn.nn.MaxPool2d(2)), input=(4, 8, 8))
    assert EnergyTable()(net) == 0 < EnergyTable(elementwise="memory")(net)


@pytest.mark.parametrize(
    "wrong", [{"bits": 4}, {"buffer_kb": 4}, {"technology": "7nm"}, {"reuse": 0}, {"dram_pj": -1}]
)
def test_what_was_not_published_is_refused_with_a_remedy(wrong):
    with pytest.raises(ValueError, match=r"must|> 0"):
        EnergyTable(**wrong)


# Both -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        EnergyTable(),
        EnergyTable(bits=16, elementwise="memory", buffer_kb=8),
        Roofline(1e9, 1e8, cache=1e3, levels=[(1e9, 64.0)], overhead=0.001),
    ],
    ids=str,
)
def test_the_laws_of_cost_models(model):
    check_cost_model(model, space(), noise=1e-9)  # sums of floats in another order


def test_a_bound_cost_is_an_exact_table():
    bound = Roofline(1e9, 1e8, overhead=0.001).bind(space())
    assert bound.table is not None and "0 wrong" in str(bound.error)
