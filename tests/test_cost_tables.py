"""Cost tables against the networks themselves: every row of small spaces, by torch's own counts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import symnas as sn
from symnas import cost_models as cm
from symnas.costs.bound_measured import MeasuredCost
from symnas.costs.bound_table import TableCost
from symnas.costs.decompose import simplified
from symnas.costs.pieces import macs_of
from symnas.costs.record import pieces_of
from symnas.costs.scopes import Scopes
from symnas.costs.structure import structure_of
from symnas.costs.table import CostTable, Term

# Modules as authors write them ---------------------------------------------------------------------


@sn.symbolize
class Functional(torch.nn.Module):
    """A block between whose layers operations run: sums, activations, concatenation, products."""

    def __init__(self, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(channels, width, kernel, padding=kernel // 2)
        self.second = torch.nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.second(F.relu(self.first(x)))
        gram = torch.bmm(y.flatten(2), y.flatten(2).mT)
        return torch.cat([y, y * gram.mean()], 1)


@sn.symbolize
class Projection(torch.nn.Module):
    """A leaf with parameters of its own and functional products; one of them is seldom used."""

    def __init__(self, inputs: int, outputs: int, twice: bool = False) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(inputs, outputs))
        self.spare = torch.nn.Parameter(torch.empty(outputs, outputs)) if twice else None

    def forward(self, x: Tensor) -> Tensor:
        y = x @ self.weight
        return y if self.spare is None else F.linear(y, self.spare)


@sn.symbolize
class Listed(torch.nn.Sequential):
    def __init__(self, layers: list[torch.nn.Module]) -> None:
        super().__init__(*layers)


@sn.symbolize
class Twice(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(F.relu(self.inner(x)))


@sn.symbolize
class Tying(torch.nn.Module):
    """Encoder and decoder share a weight, as language models do."""

    def __init__(self, width: int, tied: bool) -> None:
        super().__init__()
        self.encoder = torch.nn.Linear(4, width, bias=False)
        self.decoder = torch.nn.Linear(4, width, bias=False)
        if tied:
            self.decoder.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.encoder(x), self.decoder.weight.T)


@sn.symbolize
class Residual(torch.nn.Module):
    """Its structure depends on two widths at once."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = torch.nn.Linear(inputs, outputs)
        self.side = torch.nn.Identity() if inputs == outputs else torch.nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.side(x)


@sn.symbolize
class Reshaped(torch.nn.Module):
    """Two tensors of one shape, of which one changes its shape in place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a = torch.nn.Linear(4, width)
        self.b = torch.nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        y, z = F.relu(self.a(x)), F.relu(self.a(x))
        y.unsqueeze_(0)
        return self.b(z) + self.b(y)[0]


@sn.symbolize
class Gated(torch.nn.Module):
    """Three far decisions matter only together: one combination of 27 has a layer more."""

    def __init__(self, a: int, b: int, c: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 4) if (a, b, c) == (2, 2, 2) else torch.nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@sn.symbolize
class Dense(torch.nn.Module):
    """DenseNet-like: what a layer sees depends on the widths of all before it."""

    def __init__(self, widths: list[int], inputs: int = 2) -> None:
        super().__init__()
        sums = np.cumsum([inputs, *widths]).tolist()
        self.layers = torch.nn.ModuleList(
            torch.nn.Linear(s, w) for s, w in zip(sums[:-1], widths, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], -1)
        return x


# Spaces --------------------------------------------------------------------------------------------


def chain(*widths: Any, inputs: Any = 4) -> Any:
    """Linear layers one after the other: choices of widths are used twice."""
    ends = [inputs, *widths]
    return sn.nn.Sequential(*(sn.nn.Linear(a, b) for a, b in itertools.pairwise(ends)))


def _depth() -> sn.Space:
    def block(i: int) -> Any:
        return sn.oneof([sn.nn.Linear(5, 5, bias=sn.oneof([True, False])), sn.nn.ReLU()])

    return sn.Space(
        sn.nn.Sequential(sn.nn.Linear(4, 5), sn.repeat(block, sn.intv(0, 3))), input=(4,)
    )


def _nested() -> sn.Space:
    def wide(width: Any) -> Any:
        return sn.nn.Sequential(sn.nn.Linear(4, width), sn.nn.ReLU(), sn.nn.Linear(width, 4))

    inner = sn.oneof([wide(sn.oneof([2, 3, 7])), sn.nn.Identity()])
    outer = sn.oneof([sn.nn.Sequential(inner, sn.nn.Linear(4, 4)), sn.nn.Tanh(), inner])
    return sn.Space(sn.nn.Sequential(outer, sn.nn.Linear(4, sn.oneof([2, 3]))), input=(4,))


def _convolutions(**options: Any) -> sn.Space:
    width, size = sn.oneof([4, 8], name="width"), sn.oneof([8, 9, 12])
    program = sn.nn.Sequential(
        sn.nn.Conv2d(2, width, sn.oneof([1, 3]), stride=sn.oneof([1, 2]), padding=1),
        sn.nn.BatchNorm2d(width),
        sn.nn.Conv2d(width, width, 3, groups=sn.oneof([1, 2, 4]), padding=1),
        sn.nn.AdaptiveAvgPool2d(1), sn.nn.Flatten(),
        sn.nn.Linear(width, sn.derived(lambda w: w + w % 8, sn.tied("width"))),
    )  # fmt: skip
    return sn.Space(program, input=(2, size, size), **options)


def _picks(k: int = 2, **how: Any) -> sn.Space:
    layers = [sn.nn.Linear(4, 4), sn.nn.ReLU(), chain(3, 4), sn.nn.Linear(4, 4, bias=False)]
    return sn.Space(
        sn.nn.Sequential(Listed(sn.manyof(k, layers, **how)), sn.nn.Linear(4, sn.oneof([2, 5]))),
        input=(4,),
    )


def _picked_widths(**how: Any) -> sn.Space:
    return sn.Space(Dense(sn.manyof(2, [1, 2, 4, 7], **how)), input=(2,))


def _valid() -> sn.Space:
    widths = [sn.oneof([2, 3, 5]) for _ in range(3)]
    return sn.Space(chain(*widths), input=(4,), valid=lambda a: len(set(a.row)) > 1)


def _float(steps: int) -> sn.Space:
    """A width that a float decides, in so many steps: with one, the float does not matter."""
    width = sn.derived(lambda share: 2 + int(steps * share), sn.floatv(0.0, 0.99))
    layers = [sn.nn.Linear(4, width), sn.nn.LazyLinear(sn.oneof([2, 3]))]
    return sn.Space(sn.nn.Sequential(*layers), input=(4,))


def _lazy() -> sn.Space:
    convolution = sn.nn.Conv2d(1, sn.oneof([2, 3]), 3, stride=sn.oneof([1, 2]))
    return sn.Space(
        sn.nn.Sequential(convolution, sn.nn.Flatten(), sn.nn.LazyLinear(sn.oneof([2, 5]))),
        input=(1, 7, sn.oneof([6, 8])),
    )


def _blocks() -> sn.Space:
    block = sn.repeat(
        lambda i: Functional(3 * 2**i, sn.oneof([2, 4]), sn.oneof([1, 3])), sn.oneof([1, 2])
    )
    return sn.Space(block, input=(3, 5, 5))


def _shared() -> sn.Space:
    layer = sn.nn.Linear(4, 4, bias=sn.oneof([True, False]))
    width = sn.oneof([3, 4, 6])
    return sn.Space(
        sn.nn.Sequential(
            Twice(layer), Tying(width, sn.oneof([True, False])), sn.nn.ReLU(), layer,
            Projection(4, width, sn.oneof([True, False])), Residual(width, 4),
        ),
        input=(4,),
    )  # fmt: skip


SPACES: dict[str, Callable[[], sn.Space]] = {
    "tied widths": lambda: sn.Space(
        chain(*(sn.oneof([2, 3, 5]) for _ in range(4))), input=(sn.oneof([3, 6]), 4)
    ),
    "conditional depth": _depth,
    "nested": _nested,
    "convolutions": _convolutions,
    "one layer": lambda: sn.Space(sn.nn.Linear(4, sn.oneof([2, 7, 3])), input=(4,)),
    "one choice of layers": lambda: sn.Space(
        sn.oneof([sn.nn.Linear(4, 4), sn.nn.ReLU(), sn.nn.GRU(4, 3, batch_first=True)]),
        input=(5, 4),
    ),
    "no choice": lambda: sn.Space(chain(3, 2), input=(4,)),
    "distinct picks": _picks,
    "subset": lambda: _picks(3, sorted=True),
    "permutation": lambda: _picks(4),
    "picks with repetition": lambda: _picks(distinct=False),
    "sorted picks with repetition": lambda: _picks(3, distinct=False, sorted=True),
    "picked widths": _picked_widths,
    "picked widths with repetition": lambda: _picked_widths(distinct=False, sorted=True),
    "valid": _valid,
    "a float that does not matter": lambda: _float(1),
    "lazy": _lazy,
    "operations between layers": _blocks,
    "shared parameters": _shared,
    "attention": lambda: sn.Space(
        sn.nn.TransformerEncoderLayer(
            8, sn.oneof([1, 2, 4]), sn.oneof([4, 16]), batch_first=sn.oneof([True, False])
        ),
        input=(sn.oneof([3, 5]), 8),
    ),
    "three decisions together": lambda: sn.Space(
        Gated(*(sn.oneof([0, 1, 2]) for _ in range(3))), input=(4,)
    ),
}
INDEPENDENT = [name for name in SPACES if "picks" not in name and "picked" not in name
               and name not in ("subset", "permutation")]  # fmt: skip

_made: dict[str, sn.Space] = {}


def made(name: str) -> sn.Space:
    """A space of `SPACES`, made once: its tables are kept with it."""
    if name not in _made:
        _made[name] = SPACES[name]()
    return _made[name]


def all_rows(space: sn.Space) -> Any:
    rows = np.concatenate(list(space.enumerate(levels=2)))
    return rows[space.is_valid(rows)]


def counted(architecture: sn.Architecture) -> tuple[int, int]:
    """MACs and parameters of a network, by torch alone."""
    network = architecture.build(device="meta").eval()
    assert architecture.input is not None
    # Without gradients, and on a CPU, attention is one operation that torch does not count.
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *architecture.input, device="meta"))
    return counter.get_total_flops() // 2, sum(p.numel() for p in network.parameters())


class Outputs(sn.CostModel):
    """A cost as a user writes it: over layers, and not linear in their sizes."""

    unit = "roots"

    def layer(self, module: Any, inputs: Any, outputs: Any) -> float:
        own = sum(p.numel() for p in module.parameters())
        return float(sum(t.numel() for t in outputs)) ** 0.5 + own / 7


# Tables are the networks' costs --------------------------------------------------------------------


@pytest.mark.parametrize("name", SPACES)
def test_every_row_costs_what_torch_counts(name: str) -> None:
    space = made(name)
    rows = all_rows(space)
    truth = np.array([counted(space.decode(row)) for row in rows], np.float64)
    for model, true in ((cm.Macs(), truth[:, 0]), (cm.Parameters(), truth[:, 1])):
        bound = model.bind(space)
        assert isinstance(bound, TableCost), bound.note
        assert np.array_equal(bound(rows), true), model
        assert bound.error is not None and bound.error.wrong == 0 and bound.error.n > 0


@pytest.mark.parametrize("name", SPACES)
def test_costs_that_users_write_for_layers_become_tables(name: str) -> None:
    space = made(name)
    rows = all_rows(space)[:60]
    bound = Outputs().bind(space)
    assert isinstance(bound, TableCost) and bound.error is not None and bound.error.wrong == 0
    np.testing.assert_allclose(bound(rows), [Outputs()(space.decode(row)) for row in rows])


@pytest.mark.parametrize("name", SPACES)
def test_the_pieces_of_a_network_are_all_that_it_computes(name: str) -> None:
    space = made(name)
    for row in all_rows(space)[:3]:
        architecture = space.decode(row)
        pieces = [piece for _, piece in pieces_of(architecture)]
        assert sum(macs_of(piece) for piece in pieces) == counted(architecture)[0]


def test_a_space_without_choices_has_costs() -> None:
    assert cm.Macs().bind(made("no choice"))([[]]).tolist() == [4 * 3 + 3 * 2]


def test_equal_tensors_are_not_one_tensor() -> None:
    space = sn.Space(Reshaped(sn.oneof([3, 5])), input=(4,))
    rows = all_rows(space)
    assert cm.Macs().bind(space)(rows).tolist() == [counted(space.decode(r))[0] for r in rows]


def test_a_float_that_changes_a_layer_is_measured() -> None:
    layers = [sn.nn.Linear(4, sn.oneof([2, 3])), sn.nn.Dropout(sn.floatv(0.0, 0.5))]
    space = sn.Space(sn.nn.Sequential(*layers), input=(4,))
    bound = cm.Macs().bind(space)
    assert "float" in bound.note
    assert bound([[0, 5], [1, 9]]).tolist() == [8, 12]


# What is no table is measured ----------------------------------------------------------------------


def _nasbench101() -> sn.Space:
    from symnas.spaces.nasbench101 import nasbench101

    return nasbench101(8, 1, 1, resolution=8)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_nasbench101, "depend"),
        (lambda: sn.Space(Dense([sn.oneof([1, 2, 4]) for _ in range(9)]), input=(2,)), "depend"),
        (lambda: _float(3), "float"),
    ],
    ids=["nasbench101", "dense", "float"],
)
def test_what_couples_too_much_is_measured_and_says_so(
    make: Callable[[], sn.Space], told: str
) -> None:
    space = make()
    rows = space.sample(40, seed=1)
    rows = rows[space.is_valid(rows)][:5]
    bound = cm.Macs().bind(space)
    assert isinstance(bound, MeasuredCost) and told in bound.note
    assert bound(rows).tolist() == [counted(space.decode(row))[0] for row in rows]


# Mistakes are noticed ------------------------------------------------------------------------------


def _forgetful(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The first scopes that are learned lack a decision, as if no walk had come across it."""
    learn, _left = Scopes.learn, [times]

    def forgets(self: Scopes) -> None:
        learn(self)
        self.scopes = [scope[:-1] if 0 in scope else scope for scope in self.scopes]

    monkeypatch.setattr(Scopes, "learn", forgets)


def test_scopes_that_lack_a_decision_are_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    _forgetful(monkeypatch, 1)
    space = SPACES["tied widths"]()
    bound = cm.Macs().bind(space)
    rows = all_rows(space)
    assert bound.error is not None and bound.error.wrong == 0
    assert bound(rows[::7]).tolist() == [cm.Macs()(space.decode(row)) for row in rows[::7]]


def test_tables_that_are_wrong_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    _forgetful(monkeypatch, 1)
    monkeypatch.setattr(Scopes, "differing", lambda *_: False)
    bound = cm.Macs().bind(SPACES["tied widths"]())
    assert bound.table is None and "wrong for" in bound.note


@sn.symbolize
class Alternating(torch.nn.Module):
    """Computes something else at every other call: its attributes change in `forward`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.calls = 0
        self.narrow, self.wide = torch.nn.Linear(4, 4), torch.nn.Linear(4, width)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.narrow(x) if self.calls % 2 else self.wide(x)[:, :4]


def test_layers_with_a_memory_are_measured_or_known_to_be_wrong() -> None:
    space = sn.Space(Twice(Alternating(sn.oneof([5, 6, 9]))), input=(4,))
    bound, rows = cm.Macs().bind(space), all_rows(space)
    right = bound(rows).tolist() == [counted(space.decode(row))[0] for row in rows]
    assert right or (bound.error is not None and bound.error.wrong > 0)


# Rewriting tables ----------------------------------------------------------------------------------


@st.composite
def tables(draw: Any, name: str | None = None) -> tuple[sn.Space, CostTable]:
    """A space and random terms over its decisions; entries that no row reaches are filled too."""
    space = made(draw(st.sampled_from(list(SPACES))) if name is None else name)
    structure = structure_of(space)
    usable = [c for c in range(len(structure)) if not structure.floats[c]]
    terms = []
    for _ in range(draw(st.integers(0, 3)) if usable else 0):
        columns = draw(st.lists(st.sampled_from(usable), min_size=1, max_size=3, unique=True))
        columns = tuple(sorted(columns))
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        values = rng.integers(-9, 9, structure.shape(columns)).astype(float)
        if draw(st.booleans()):  # a sum, which needs no common term
            values = sum(np.indices(values.shape) * (i + 1.0) for i in range(1)).sum(axis=0)
        terms.append(Term(columns, values))
    return space, CostTable(draw(st.integers(-5, 5)), terms)


@settings(max_examples=80, deadline=None)
@given(tables())
def test_simplified_tables_cost_the_same_on_every_row(case: tuple[sn.Space, CostTable]) -> None:
    space, table = case
    rows = np.concatenate(list(space.enumerate(levels=2)))
    simple = simplified(structure_of(space), table.terms, table.bias)
    np.testing.assert_allclose(simple(rows), table(rows), atol=1e-9)
    assert simple.largest <= max((len(_closed(space, t)) for t in table.terms), default=0)
    for term in simple.terms:
        unreachable = ~structure_of(space).reachable(term.columns)
        assert not term.values[unreachable].any(), "entries that no row reaches are 0"


def _closed(space: sn.Space, term: Term) -> tuple[int, ...]:
    return structure_of(space).closed(term.columns)


def test_coding_style_does_not_matter() -> None:
    """A module that is given all decisions at once has the tables of one that is given each."""
    widths = [sn.oneof([2, 3, 5]) for _ in range(5)]

    @sn.symbolize
    class Whole(torch.nn.Module):
        def __init__(self, widths: list[int]) -> None:
            super().__init__()
            ends = [4, *widths]
            self.layers = torch.nn.Sequential(
                *(torch.nn.Linear(a, b) for a, b in itertools.pairwise(ends))
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x)

    apart = cm.Macs().bind(sn.Space(chain(*widths), input=(4,))).table
    whole = cm.Macs().bind(sn.Space(Whole(widths), input=(4,))).table
    assert apart is not None and whole is not None
    assert whole.largest == apart.largest == 2
    assert {t.columns for t in whole.terms} == {t.columns for t in apart.terms}


def test_tables_add_and_scale_on_any_number_of_rows() -> None:
    space = made("nested")
    macs, parameters = cm.Macs().bind(space).table, cm.Parameters().bind(space).table
    assert macs is not None and parameters is not None
    rows = space.sample(20_000)
    both = (2 * macs - parameters + 3)(rows)
    np.testing.assert_allclose(both, 2 * macs(rows) - parameters(rows) + 3)
    assert np.array_equal(macs(rows), np.concatenate([macs(part) for part in rows[:, None]]))


# Expectations and ranges ---------------------------------------------------------------------------


def random_logits(space: sn.Space, seed: int, scale: float = 1.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        d.id: torch.randn(d.size, generator=generator, dtype=torch.float64)
        .mul_(scale)
        .requires_grad_()
        for d in space.decisions
        if d.kind != "float"
    }


def softmax(logits: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.softmax(values, 0) for name, values in logits.items()}


def slopes(value: Tensor, logits: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The gradient with respect to the logits; 0 where the value does not depend on any."""
    if not logits or not value.requires_grad:
        return tuple(torch.zeros_like(v) for v in logits.values())
    return torch.autograd.grad(
        value, list(logits.values()), allow_unused=True, materialize_grads=True
    )


def chances(space: sn.Space, rows: Any, probabilities: dict[str, Tensor]) -> Tensor:
    """The probability of each row: the product over its active decisions."""
    result = torch.ones(len(rows), dtype=torch.float64)
    for i, d in enumerate(space.decisions):
        if d.id not in probabilities:
            continue
        values = torch.from_numpy(rows[:, i].astype(np.int64))
        chosen = probabilities[d.id][values.clamp_min(0)]
        result = result * torch.where(values >= 0, chosen, torch.ones(()).double())
    return result


def distinct_rows(space: sn.Space) -> Any:
    """All rows by their discrete decisions, whatever `valid` says."""
    return np.concatenate(list(space.enumerate(levels=1)))


@pytest.mark.parametrize("name", INDEPENDENT)
@pytest.mark.parametrize("model", [cm.Macs(), cm.Parameters(), Outputs()], ids=lambda m: m.name)
def test_expectations_are_those_of_enumeration(name: str, model: sn.CostModel) -> None:
    space = made(name)
    bound, rows = model.bind(space), distinct_rows(space)
    logits = random_logits(space, seed=3)
    expected = bound.expected(softmax(logits))
    enumerated = (chances(space, rows, softmax(logits)) * torch.from_numpy(bound(rows))).sum()
    torch.testing.assert_close(expected, enumerated)
    torch.testing.assert_close(slopes(expected, logits), slopes(enumerated, logits))


def test_a_cost_on_which_no_decision_acts_has_an_expectation() -> None:
    activation = sn.oneof([sn.nn.ReLU(), sn.nn.GELU()])
    space = sn.Space(sn.nn.Sequential(sn.nn.Linear(4, 3), activation), input=(4,))
    bound = cm.Macs().bind(space)
    assert float(bound.expected()) == bound.range().low == bound.range().high == 12.0


def test_expectations_of_picks_are_refused_rather_than_approximated() -> None:
    with pytest.raises(ValueError, match="independent"):
        cm.Macs().bind(made("picked widths")).expected()


@pytest.mark.parametrize("name", SPACES)
def test_ranges_are_those_of_enumeration(name: str) -> None:
    space = made(name)
    rows = all_rows(space)
    for model in (cm.Macs(), Outputs()):
        bound = model.bind(space)
        found, costs = bound.range(), bound(rows)
        assert found.exact
        np.testing.assert_allclose([found.low, found.high], [costs.min(), costs.max()])
        assert space.is_row(found.row_low) and space.is_row(found.row_high)
        assert space.is_valid(np.stack([found.row_low, found.row_high])).all()
        ends = bound(np.stack([found.row_low, found.row_high]))
        assert ends.tolist() == [found.low, found.high]
