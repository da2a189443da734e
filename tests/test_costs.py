"""Cost models and constraints: laws, known networks, messages."""

from __future__ import annotations

import json
import subprocess
import sys

import attrs
import numpy as np
import pytest
import torch

import symnas as sn
from symnas import cost_models as cm
from symnas.costs.code import code_digest
from symnas.costs.intervals import wilson
from symnas.testing.costs import check_cost_model


def space(**options):
    width = sn.oneof([4, 8, 16])
    program = sn.nn.Sequential(
        sn.nn.Conv2d(1, width, sn.oneof([1, 3])), sn.nn.ReLU(), sn.nn.AdaptiveAvgPool2d(1),
        sn.nn.Flatten(), sn.nn.Linear(width, 3),
    )  # fmt: skip
    return sn.Space(program, input=(1, 8, 8), **options)


def deep():
    """Ten decisions, 3**10 architectures: too many to be measured wholly."""
    layers = [
        sn.oneof([sn.nn.Linear(4, 4), sn.nn.Bilinear(4, 4, 4), sn.nn.ReLU()]) for _ in range(10)
    ]
    return sn.Space(sn.nn.ModuleList(layers))


class Activations(sn.CostModel):
    unit = "elements"

    def layer(self, module, inputs, outputs):
        return sum(t.numel() for t in outputs)


@attrs.frozen
class Width(sn.CostModel):
    """The first decision's value: cheap, and easy to reason about."""

    factor: float = 1.0
    name: str = "width"
    unit = "channels"

    def measure(self, architecture):
        return self.factor * architecture.row[0]


@pytest.mark.parametrize("model", [cm.Parameters(), cm.Macs(), Activations(), Width(2.0)], ids=repr)
def test_conformance(model):
    check_cost_model(model, space())


def test_the_conformance_suite_finds_what_is_wrong():
    class Drawn(sn.CostModel):
        unit = "ms"

        def __call__(self, architecture):
            return float(torch.rand(()))

        def measure(self, architecture):
            raise NotImplementedError

    class Negative(Width):
        def measure(self, architecture):
            return -1.0

    for model, law in ((Drawn(), "order of the rows"), (Negative(), "not negative")):
        with pytest.raises(AssertionError, match=law):
            check_cost_model(model, space())


# Known networks ---------------------------------------------------------------------------------


def test_known_network():
    row = [1, 1]  # width 8, kernel 3: 6 x 6 outputs
    assert cm.Parameters().bind(space())([row])[0] == 8 * 9 + 8 + 8 * 3 + 3
    assert cm.Macs().bind(space())([row])[0] == 36 * 8 * 9 + 8 * 3
    assert Activations().bind(space())([row])[0] == 2 * 8 * 36 + 8 + 8 + 3


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (sn.nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2), (6, 8, 8), 4 * 3 * 9 * 16),
        (sn.nn.ConvTranspose2d(2, 3, 2, stride=2), (2, 4, 4), 2 * 3 * 4 * 16),
        (sn.nn.LSTM(16, 8, batch_first=True), (5, 16), 5 * 4 * 8 * (16 + 8)),
        (
            sn.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True),
            (5, 16),
            5 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 5 * 5 * 16,
        ),
        (sn.nn.BatchNorm2d(3), (3, 4, 4), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_macs_by_formula(layer, shape, macs):
    assert cm.Macs()(sn.Architecture(layer, input=shape)) == macs


class Product(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bilinear = torch.nn.Bilinear(4, 5, 6)

    def forward(self, x):
        return self.bilinear(x[:, :4], x[:, 4:])


def test_macs_of_bilinear_layers_count():
    assert cm.Macs()(sn.Architecture(sn.spec(Product), input=(9,))) == 4 * 5 * 6


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Linear(4, 4)
        self.b = self.a
        self.register_buffer("mean", torch.zeros(7))

    def forward(self, x):
        return self.b(self.a(x))


def test_shared_parameters_count_once_and_shared_computation_twice():
    tied = sn.Architecture(sn.spec(Tied), input=(4,))
    assert cm.Parameters()(tied) == 4 * 4 + 4
    assert cm.Macs()(tied) == 2 * 4 * 4
    assert Activations()(tied) == 2 * 4


def test_layers_are_what_calls_no_other_module():
    # Attention uses the weights of its output projection without calling it.
    class Names(sn.CostModel):
        unit = "layers"
        seen: list[str] = []

        def layer(self, module, inputs, outputs):
            self.seen.append(type(module).__name__)
            return 1

    class Attend(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, key=x, value=x)[0]

    sn.register(Attend)
    assert Names()(sn.Architecture(sn.spec(Attend), input=(3, 8))) == 1
    assert Names.seen == ["MultiheadAttention"]


class Scheduled(torch.nn.Module):
    def __init__(self, depth):
        super().__init__()
        rates = [rate.item() for rate in torch.linspace(0, 0.5, depth)]
        self.layers = torch.nn.Sequential(
            *[torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(r)) for r in rates]
        )

    def forward(self, x):
        return self.layers(x)


def test_constructors_that_compute_with_numbers_are_measured_too():
    net = sn.Architecture(sn.spec(Scheduled, 3), input=(4,))
    assert cm.Macs()(net) == 3 * 16


def test_lazy_layers_have_parameters():
    assert cm.Parameters()(sn.Architecture(sn.nn.LazyLinear(3), input=(4,))) == 15


# Bound costs ------------------------------------------------------------------------------------


def test_each_network_is_measured_once_whatever_the_task_has_chosen():
    asked = []

    class Counted(sn.CostModel):
        unit = "x"

        def measure(self, architecture):
            asked.append(architecture.row)
            return 1

    joined = space().with_task({"lr": sn.floatv(1e-4, 1e-1)})
    bound = Counted().bind(joined)
    rows = joined.sample(40, seed=3)
    assert len({tuple(r) for r in rows.tolist()}) == 40  # forty learning rates
    bound(rows)
    bound(rows)
    assert len(asked) == len({tuple(r[:2]) for r in rows.tolist()}) <= 6


def test_networks_that_a_space_calls_the_same_keep_their_own_costs():
    same = space(canonical=lambda architecture: 0)
    rows = np.concatenate(list(same.enumerate()))
    assert np.array_equal(cm.Macs().bind(same)(rows), cm.Macs().bind(space())(rows))


class Measured(sn.CostModel):
    """As Parameters, but nothing is known about it before it is measured."""

    unit = "parameters"
    expense = 1

    def measure(self, architecture):
        return cm.Parameters()(architecture)


def test_the_range_of_a_small_space_is_exact():
    small = space()
    rows = np.concatenate(list(small.enumerate()))
    bound = cm.Macs().bind(small)
    found = bound.range()
    assert (found.low, found.high) == (bound(rows).min(), bound(rows).max())
    assert bound([found.row_low, found.row_high]).tolist() == [found.low, found.high]
    assert found.exact and found.evaluations == 0  # by dynamic programming


def test_the_range_of_a_large_space_is_found_by_descent_within_its_evaluations():
    bound = Measured().bind(deep())
    found = bound.range(seed=1, evaluations=150)
    assert (found.low, found.high) == (0, 10 * (4 * 4 * 4 + 4))
    assert not found.exact and found.evaluations <= 150 and bound.measured <= 150
    assert bound.range(seed=1, evaluations=150)[:2] == found[:2]


def test_the_range_leaves_out_what_is_not_valid():
    narrow = space(valid=lambda architecture: architecture.row[0] < 2)
    assert cm.Macs().bind(narrow).range().high == cm.Macs().bind(space())([[1, 1]])[0]


# Constraints ------------------------------------------------------------------------------------


def test_the_mask_agrees_with_the_costs():
    s = space()
    rows = np.concatenate(list(s.enumerate()))
    bound = sn.Constraints.of(
        [cm.Macs() <= 1000, cm.Parameters() > 23, lambda a: a.choices["args[0].kernel_size"] == "1"]
    ).bind(s)
    macs, parameters = cm.Macs().bind(s)(rows), cm.Parameters().bind(s)(rows)
    assert (parameters == 23).any()  # `>` must leave it out
    expected = (macs <= 1000) & (parameters > 23) & (rows[:, 1] == 0)
    assert np.array_equal(bound.mask(rows), expected) and 0 < expected.sum() < len(rows)
    low, high = bound.feasible_fraction(n=200, seed=1)
    assert low < expected.mean() < high and not bound.exact
    low, high = sn.Constraints.of([cm.Macs() <= 1000]).bind(s).feasible_fraction()
    assert low == high == (macs <= 1000).mean()


def test_cheap_constraints_are_asked_first():
    asked = []

    class Dear(Width):
        expense = 9

        def measure(self, architecture):
            asked.append("dear")
            return 1

    def predicate(architecture):
        asked.append("predicate")
        return architecture.row[1] == 0

    bound = sn.Constraints.of([Dear(name="dear") <= 2, predicate, cm.Parameters() <= 60]).bind(
        space()
    )
    assert [cost.name for cost in bound.costs] == ["parameters", "dear"] and bound.dear
    assert bound.mask([[2, 0], [0, 1], [0, 0]]).tolist() == [False, False, True]
    assert asked == ["predicate", "predicate", "dear"]


def test_two_limits_on_one_cost_share_its_measurements():
    bound = sn.Constraints.of([Width() >= 1, Width() <= 1.5]).bind(space())
    assert len(bound.costs) == 1
    assert bound.mask([[0, 0], [1, 0], [2, 0]]).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (
            [cm.Parameters() <= 5],
            r"parameters <= 5: the smallest parameters of this space is 23\.",
        ),
        ([Width() >= 5], r"width >= 5 channels: the largest width of this space is 2 channels"),
        ([lambda architecture: False], r"<lambda> \(met by 0 of 6\)"),
        ([Width() <= 0, Width() >= 2], r"width <= 0 .*met by 2 of 6.* and width >= 2"),
    ],
)
def test_impossible_constraints_are_refused_with_what_was_reached(constraints, message):
    bound = sn.Constraints.of(constraints).bind(space())
    with pytest.raises(sn.Infeasible, match=message):
        bound.check_possible(space=bound.space)


def test_large_spaces_are_searched_for_what_random_rows_do_not_meet():
    parameters = Measured()
    sn.Constraints.of([parameters <= 0]).bind(deep()).check_possible(seed=1)  # one in 59,049
    sn.Constraints.of([parameters > 679.5]).bind(deep()).check_possible(seed=1)
    bound = sn.Constraints.of([parameters > 680]).bind(deep())
    with pytest.raises(
        sn.Infeasible, match=r"largest measured found is 680 parameters \(of \d+ measured: random"
    ):
        bound.check_possible()


def test_dear_costs_are_measured_rarely_and_told_as_time():
    class Latency(Measured):
        unit = "ms"
        expense = 9

    bound = sn.Constraints.of([Latency() <= -1]).bind(deep())
    with pytest.raises(
        sn.Infeasible, match=r"latency <= -1 ms: the fastest architecture found takes"
    ):
        bound.check_possible()
    assert bound.costs[0].measured <= 192


def test_rows_that_are_not_valid_do_not_make_constraints_possible():
    s = space(valid=lambda architecture: architecture.row[0] > 0)
    bound = sn.Constraints.of([Width() <= 0]).bind(s)
    with pytest.raises(sn.Infeasible, match="smallest width of this space is 1"):
        bound.check_possible()


def test_metric_constraints():
    limit = sn.metric("memory_mb") < 500
    assert not limit.violated({"memory_mb": 400})
    assert limit.violated({"memory_mb": 500}) and limit.violated({"memory_mb": float("nan")})
    with pytest.raises(KeyError, match="'accuracy'"):
        limit.violated({"accuracy": 1.0})
    bound = sn.Constraints.of([limit, Width() <= 1]).bind(space())
    assert bound.violated({"memory_mb": 600}) == ["memory_mb < 500"]
    assert bound.mask([[0, 0]]).all() and bound.metrics == (limit,)


def test_descriptions_tell_constraints_apart_and_not_processes():
    def described(*constraints):
        return sn.Constraints.of(list(constraints)).bind(space()).describe()

    assert described(Width() <= 1) == described(Width() <= 1) != described(Width() < 1)
    assert described(Width() <= 1) != described(Width(2.0) <= 1)
    assert described(lambda a: True) == described(lambda a: True) != described(lambda a: False)
    script = (
        "import symnas as sn\nfrom symnas import cost_models as cm\n"
        "def small(a):\n    return True\n"
        "class Own(sn.CostModel):\n    unit = 'x'\n    def measure(self, a):\n"
        "        return 1 if 'x' in {'x', 'y', 'z'} else 2\n"
        "s = sn.Space(sn.nn.Linear(1, sn.oneof([1, 2])), input=(1,))\n"
        "print(sn.Constraints.of([cm.Latency() <= 1, Own() <= 2, small]).bind(s).describe())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(runs) == 1 and "Latency" in runs.pop()


def test_wilson_interval_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    for k, n in ((0, 10), (3, 10), (250, 256)):
        expected = stats.binomtest(k, n).proportion_ci(method="wilson")
        assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


# Messages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: 1 <= cm.Macs() <= 2, "write two"),
        (lambda: np.float64(1) <= cm.Macs() <= np.float64(2), "write two"),
        (lambda: 1 < sn.metric("a") < 2, "write two"),
        (lambda: cm.Macs() <= "2", "must be a number"),
        (lambda: cm.Macs() <= True, "must be a number"),
        (lambda: cm.Macs() <= cm.Parameters(), "must be a number"),
        (lambda: cm.Macs() <= float("nan"), "must be finite"),
        (lambda: sn.Constraints.of([cm.Macs()]), r"subject_to\[0\].*without a limit"),
        (lambda: sn.Constraints.of([cm.Macs() == 3]), "`==` gives False"),
        (
            lambda: sn.Constraints.of([cm.Macs(name="a") <= 1, cm.Parameters(name="a") <= 1]),
            "named",
        ),
        (
            lambda: sn.Constraints.of([lambda a: 1]).bind(space()).mask([[0, 0]]),
            "<lambda>` returned 1",
        ),
        (lambda: cm.Macs().bind(sn.Space(sn.nn.Linear(1, 1))), "input="),
        (lambda: cm.Macs()(sn.Architecture(sn.nn.Linear(1, 1))), "input="),
        (lambda: cm.Macs().bind(space())([0, 0]), r"must be \(n, 2\)"),
        (lambda: type("Neither", (sn.CostModel,), {"unit": "x"})(), "says no cost"),
        (lambda: type("Unitless", (sn.CostModel,), {"measure": lambda s, a: 1})(), "says no unit"),
        (lambda: type("Both", (Activations,), {"measure": lambda s, a: 1}), "writes both"),
    ],
)
def test_misuse_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("model", "architecture", "message"),
    [
        (cm.Macs(), sn.Architecture(sn.nn.Linear(1, 1), input=(3,)), "macs: the architecture [0-9a-f]{32}"),
        (cm.Parameters(), sn.Architecture(sn.nn.Linear(-1, 1)), "Build and run it by hand"),
        (cm.Parameters(), sn.Architecture({"a": sn.nn.Linear(1, 1)}), "only a torch.nn.Module"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_named(model, architecture, message):
    with pytest.raises(sn.SymnasError, match=message):
        model(architecture)


def test_a_failure_names_the_choices():
    broken = sn.Space(
        sn.nn.Sequential(sn.nn.Linear(4, sn.oneof([4, 8])), sn.nn.Linear(4, 1)), input=(4,)
    )
    with pytest.raises(sn.SymnasError, match=r"out_features=8; input \(4,\)"):
        cm.Macs().bind(broken)([[0], [1]])


@pytest.mark.parametrize("value", [float("inf"), None, True, "1"])
def test_a_cost_that_is_no_number_is_refused(value):
    class Odd(sn.CostModel):
        unit = "x"

        def measure(self, architecture):
            return value

    with pytest.raises(sn.SymnasError, match="odd: the architecture"):
        Odd()(space().decode([0, 0]))


def test_descriptions_follow_options_and_code():
    assert json.dumps(Width().describe()) != json.dumps(Width(2.0).describe())

    def using(helper):
        def uses(x):
            """Adds."""
            return helper() + x

        return uses

    one, two = (lambda: 1), (lambda: 2)
    assert code_digest(using(one)) == code_digest(using(lambda: 1)) != code_digest(using(two))
