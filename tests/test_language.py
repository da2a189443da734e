"""Declaring spaces: what decorated classes stay, what choices mean, and what mistakes say."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import warnings

import pyglove as pg
import pytest
import torch
from torch import nn

import symnas as sn


@sn.symbolize
class Block(nn.Module):
    def __init__(self, channels, kernel_size=3, expansion=6):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2)
        self.expansion = expansion

    def forward(self, x):
        return self.conv(x)


@sn.symbolize
class Net(nn.Module):
    def __init__(self, width, blocks):
        super().__init__()
        self.first = Block(width)  # made inside a class: an ordinary module
        self.blocks = nn.Sequential(*blocks)


@sn.symbolize
class WithDefault(nn.Module):
    def __init__(self, width, kernel_size=sn.oneof([3, 5])):
        super().__init__()
        self.kernel_size = kernel_size


class Wide(Block):
    def __init__(self, width):
        super().__init__(width, kernel_size=5)


class Undecorated(nn.Module):
    def __init__(self, k=sn.oneof([1, 2])):
        super().__init__()
        self.layer = nn.ReLU()


@dataclasses.dataclass
class Config:
    width: object


class Plain:
    def __init__(self, value):
        self.value = value


def labels(space):
    return {d.id: d.labels for d in space.decisions}


# What a decorated class stays ---------------------------------------------------------------------


def test_an_instance_is_ordinary():
    block = Block(4, expansion=2)
    assert type(block) is Block
    assert isinstance(Net(4, [block]).blocks[0], Block)
    for other in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        assert torch.equal(other.conv.weight, block.conv.weight)
    assert torch.equal(
        torch.jit.script(block)(torch.ones(1, 4, 3, 3)), block(torch.ones(1, 4, 3, 3))
    )
    tied = nn.Sequential(block, block)
    assert len(list(tied.parameters())) == 2
    made = WithDefault(4, kernel_size=3)
    assert pickle.loads(pickle.dumps(made)).kernel_size == 3


def test_lazy_where_a_choice_or_spec_is_among_the_arguments():
    assert not isinstance(Block(sn.oneof([4, 8])), nn.Module)
    assert not isinstance(Net(4, [sn.nn.ReLU()]), nn.Module)
    assert not isinstance(WithDefault(4), nn.Module)
    assert isinstance(WithDefault(4, 3), nn.Module)
    built = sn.Space(Net(4, [Block(sn.oneof([4, 8]))])).decode([1]).build()
    assert built.blocks[0].conv.in_channels == 8


def test_lazy_in_the_body_of_a_space_only():
    @sn.space(input=(4, 8, 8))
    def space():
        assert not isinstance(Block(4), nn.Module)
        return sn.nn.Sequential(Block(4), Block(sn.oneof([4, 8])))

    assert space().size == 2
    assert isinstance(Block(4), Block)


def test_a_subclass_makes_its_own_spec():
    built = sn.Space(Wide(sn.oneof([4, 8]))).decode([0]).build()
    assert type(built) is Wide
    assert built.conv.kernel_size == (5, 5)


def test_functions_can_be_symbolized():
    space = sn.Space(stack(sn.oneof([1, 2])))
    assert len(space.decode([1]).build()) == 2
    assert len(stack(3)) == 3


@sn.symbolize
def stack(n):
    return nn.Sequential(*[nn.ReLU() for _ in range(n)])


def test_builds_share_no_weights_and_given_modules_are_copied():
    architecture = sn.Architecture(sn.nn.Linear(2, 2))
    a, b = architecture.build(), architecture.build()
    assert not torch.equal(a.weight, b.weight)
    given = nn.Linear(2, 2)
    program = sn.nn.Sequential(sn.given(given), sn.nn.ReLU())
    a, b = sn.build(program), sn.build(program)
    assert torch.equal(a[0].weight, given.weight)
    assert a[0].weight is not b[0].weight


def test_pyglove_keeps_working_on_programs():
    program = sn.nn.Sequential(sn.nn.Linear(4, 8), sn.nn.Linear(8, 2))
    assert list(pg.query(program, ".*out_features").values()) == [8, 2]
    other = program.clone(deep=True, override={"args[0].out_features": 16})
    assert program.args[0].out_features == 8
    assert other.args[0].out_features == 16
    assert not pg.eq(program, other)
    assert "16" in str(pg.diff(program, other))
    other.rebind(lambda k, v, p: 32 if v == 16 else v)
    assert sn.build(other)[0].out_features == 32
    assert "Linear" in other.to_html().content


# What choices mean --------------------------------------------------------------------------------


def test_one_object_is_one_decision_and_two_are_two():
    width = sn.oneof([4, 8])
    assert sn.Space(sn.nn.Linear(width, width)).size == 2
    assert sn.Space(sn.nn.Linear(sn.oneof([4, 8]), sn.oneof([4, 8]))).size == 4
    assert sn.Space([WithDefault(4), WithDefault(4)]).size == 4  # defaults are anew for each object


def test_arithmetic_and_derived_follow_the_choice():
    w = sn.oneof([8, 16])
    program = [w, w * 2, 2 * w, w + 1, 1 + w, w - 1, w // 4, w % 3, -w, w**2, w / 2, 100 - w,
               sn.derived(max, w, 12), sn.derived(min, 3, 4)]  # fmt: skip
    space = sn.Space(program)
    assert space.size == 2
    for row, v in (([0], 8), ([1], 16)):
        assert list(space.decode(row).build()) == [
            v, v * 2, 2 * v, v + 1, 1 + v, v - 1, v // 4, v % 3, -v, v**2, v / 2, 100 - v,
            max(v, 12), 3,
        ]  # fmt: skip
    assert space.contains(space.decode([1]).program)
    wrong = space.decode([1]).program.clone(deep=True)
    wrong.rebind({"[1]": 16})
    assert not space.contains(wrong)


def test_a_choice_that_shows_only_computed_is_found():
    w = sn.oneof([8, 16])
    space = sn.Space([w * 2])
    assert space.encode(space.decode([1]).program).tolist() == [1]


def test_tied_and_names():
    space = sn.Space([sn.oneof([1, 2], name="a"), sn.tied("a"), sn.tied("a") * 3])
    assert list(space.decode([1]).build()) == [2, 2, 6]
    assert space.decode([1])["a"] == 2
    with pytest.raises(KeyError, match="names: 'a'"):
        space.decode([1])["b"]


def test_shared_choice_under_two_branches_is_active_in_either():
    k = sn.oneof([3, 5])
    space = sn.Space(sn.oneof([Block(4, k), sn.oneof([Block(8, k), sn.nn.ReLU()])]))
    by_id = {d.id: d for d in space.decisions}
    shared = by_id["[=0/2].kernel_size"]
    assert len(shared.when) == 2
    assert space.size == 2 + 2 + 1
    assert {tuple(r) for b in space.enumerate() for r in b.tolist()} == {
        (0, 0, -1), (0, 1, -1), (1, 0, 0), (1, 1, 0), (1, -1, 1)}  # fmt: skip


def test_repeat_is_active_for_several_depths():
    space = sn.Space(sn.repeat(lambda i: Block(4, sn.oneof([3, 5])), sn.intv(1, 3)))
    assert space.size == 2 + 4 + 8
    assert len(space.decode([0, 1, -1, -1]).build()) == 1
    assert labels(space)["times"] == ("1", "2", "3")
    derived = sn.intv(1, 2)
    pair = sn.Space([derived, sn.repeat(lambda i: Block(4, sn.oneof([3, 5])), derived * 2)])
    assert pair.size == 2**2 + 2**4
    once = sn.Space(sn.repeat(Block(4, sn.oneof([3, 5])), 3))
    assert once.size == 8  # fresh per block
    k = sn.oneof([3, 5])
    assert sn.Space(sn.repeat(lambda i: Block(4, k), 3)).size == 2  # shared by the function


def test_manyof_and_permutations():
    assert sn.Space(sn.manyof(2, [1, 2, 3])).size == 6
    assert sn.Space(sn.manyof(2, [1, 2, 3], sorted=True)).size == 3
    assert sn.Space(sn.manyof(2, [1, 2, 3], distinct=False)).size == 9
    assert sn.Space(sn.manyof(2, [1, 2, 3], distinct=False, sorted=True)).size == 6
    assert sn.Space(sn.permutate([1, 2, 3, 4])).size == 24
    nested = sn.Space(sn.manyof(2, [sn.nn.Linear(1, sn.oneof([1, 2])), "a", "b"], sorted=True))
    assert nested.size == 2 + 2 + 1


def test_group_labels_all_that_is_nested():
    space = sn.Space([sn.oneof([Block(4, sn.oneof([3, 5])), 1], group="hw"), sn.oneof([1, 2])])
    assert [d.group for d in space.decisions] == ["hw", "hw", None]


def test_input_may_be_a_choice():
    size = sn.oneof([16, 32])
    space = sn.Space(Block(3, sn.oneof([3, 5])), input=(3, size, size))
    assert space.size == 4
    assert space.input == (3, 32, 32)
    assert {space.decode(r).input for b in space.enumerate() for r in b} == {
        (3, 16, 16),
        (3, 32, 32),
    }


def test_equal_candidates_are_merged_with_a_warning():
    with pytest.warns(UserWarning, match="2 of 4 candidates"):
        choice = sn.oneof([round(8 * m) for m in (1.0, 1.01, 1.5, 1.52)])
    assert sn.Space(choice).size == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sn.Space(sn.oneof([1, 1.0, True])).size == 3


def test_floats_are_numbers():
    space = sn.Space([sn.floatv(1e-4, 1e-1, scale="log"), sn.oneof([1, 2])])
    assert space.size == 2  # floats are left out
    row = space.encode(pg.List([0.01, 2]))
    assert space.decode(row).build()[0] == pytest.approx(0.01, rel=1e-4)
    near = space.neighbors(row)
    assert len(near) == 3
    with pytest.raises(sn.DeclarationError, match="float decisions"):
        next(space.enumerate())


def test_trace_follows_python_branches():
    space = sn.trace(branching)
    assert space.size == 3 + 2
    built = {type(space.decode(r).build()).__name__ for b in space.enumerate() for r in b}
    assert built == {"Sequential", "Linear"}


@sn.symbolize
def branching():
    if sn.oneof(["deep", "wide"], name="kind") == "deep":
        return nn.Sequential(*[nn.Linear(4, 4) for _ in range(sn.intv(2, 4, name="depth"))])
    return nn.Linear(4, sn.oneof([64, 128], name="width"))


# What mistakes say --------------------------------------------------------------------------------

MISTAKES = {
    "a choice in a tuple": (
        lambda: sn.nn.Conv2d(1, 2, (sn.oneof([1, 3]), 3)), "kernel_size.*tuple.*Write a list"),
    "a choice in a tuple of PyGlove's": (
        lambda: sn.Space(pg.Dict(a=(pg.oneof([1, 2]), 3))), "a: .*tuple.*list"),
    "a choice in a dataclass": (
        lambda: sn.spec(Block, 4, Config(sn.oneof([1, 2]))), "kernel_size.*`width` of a Config"),
    "a choice in a plain object": (
        lambda: sn.Space(pg.Dict(x=Plain(sn.oneof([1, 2])))), "x: .*`value` of a Plain"),
    "a choice in a live module": (
        lambda: sn.nn.Sequential(nn.LeakyReLU(sn.oneof([0.1, 0.2]))),
        "negative_slope.*LeakyReLU.*sn.nn.LeakyReLU"),
    "a live module with a choice as the program": (
        lambda: sn.Space(nn.BatchNorm2d(4, momentum=sn.oneof([0.1, 0.2]))), "momentum.*BatchNorm2d"),
    "a live module in a program": (
        lambda: sn.nn.Sequential(nn.ReLU()), "live module.*share.*sn.given"),
    "a live module by rebind": (
        lambda: sn.nn.Sequential(sn.nn.ReLU()).rebind({"args[0]": nn.ReLU()}), "live module"),
    "no candidates": (lambda: sn.oneof([]), "`candidates` is empty"),
    "too many picks": (lambda: sn.manyof(3, [1, 2]), r"`k` \(3\).*number of candidates \(2\)"),
    "an unknown tied name": (
        lambda: sn.Space([sn.oneof([1], name="a"), sn.tied("b")]), "'b'.*names here: 'a'.*name='b'"),
    "one name, other candidates": (
        lambda: sn.Space([sn.oneof([1, 2], name="a"), sn.oneof([1, 3], name="a")]), "'a'.*Use another"),
    "integer bounds": (lambda: sn.intv(5, 2), r"`min_value` \(5\).*`max_value` \(2\).*Swap"),
    "float bounds": (lambda: sn.floatv(2.0, 1.0), "less than `max_value`.*Swap"),
    "a log scale from zero": (lambda: sn.floatv(0.0, 1.0, scale="log"), "must be positive"),
    "an argument that cannot be stored": (
        lambda: sn.nn.Linear(torch.ones(2), 2), "in_features.*type Tensor.*cannot be stored"),
    "a lambda as an argument": (
        lambda: sn.spec(Block, 4, kernel_size=lambda: 3), "kernel_size.*no name.*def"),
    "an unregistered function": (
        lambda: sn.spec(Block, 4, kernel_size=labels), "labels.*not known.*@sn.register"),
    "a choice in an undecorated default": (
        lambda: sn.spec(Undecorated), "default of `k`.*not decorated.*@sn.symbolize"),
    "a live module of an undecorated class with a choice default": (
        lambda: sn.nn.Sequential(Undecorated()), "default of `k`.*Undecorated.*@sn.symbolize"),
    "an if on a choice": (lambda: 1 if sn.oneof([1, 2]) else 2, "no truth value.*sn.oneof"),
    "range over a choice": (lambda: range(sn.intv(1, 3)), "not a number yet.*derived"),
    "blocks by a float": (lambda: sn.repeat(lambda i: Block(1), sn.oneof([1.5])), "`times`.*intv"),
    "an architecture with choices": (
        lambda: sn.Architecture(sn.nn.Linear(4, sn.oneof([1, 2]))), "no choices left"),
    "building with choices": (
        lambda: sn.build(sn.nn.Linear(4, sn.oneof([1, 2]))), "still has a choice"),
    "a space that is not called": (lambda: sn.Space(lambda: 1), "must be a spec"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_errors_with_a_remedy(mistake):
    make, message = MISTAKES[mistake]
    with pytest.raises(sn.DeclarationError, match=f"(?s){message}"):
        make()


def test_a_choice_that_is_lost_on_the_way_is_an_error():
    @sn.space
    def space():
        sn.oneof([1, 2], name="lost")
        return sn.nn.Linear(4, sn.oneof([1, 2]))

    with pytest.raises(sn.DeclarationError, match=r"lost.*not part of the program"):
        space()


def test_torch_layers_in_a_space_body_hint_at_sn_nn():
    @sn.space
    def space():
        return nn.Sequential(Block(sn.oneof([1, 2])))

    with pytest.raises(TypeError, match=r"use sn\.nn"):
        space()


def test_a_given_module_may_count():
    given = sn.given(torch.nn.BatchNorm2d(3))  # its counter of batches has no dimension
    space = sn.Space(sn.nn.Sequential(sn.nn.Conv2d(2, 3, sn.oneof([1, 3])), given), input=(2, 5, 5))
    assert given == sn.given(torch.nn.BatchNorm2d(3))
    built = space.decode([1]).build()
    assert built[1].num_batches_tracked == 0
