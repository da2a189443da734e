"""A found architecture is a program: look into it, edit it, evaluate it, give it back."""

from pathlib import Path

import pyglove as pg
from quickstart import tiny

import symnas as sn
from symnas import algorithms as alg
from symnas import data

digits = data.digits()
task = sn.Task(digits.train, epochs=1, lr=1e-2)
space = tiny()
study = sn.search(space, alg.RandomSearch(), task, maximize="accuracy", trials=3, study="edit.db")
found = study.best.architecture

# Query: every kernel size in it, by path.
print(pg.query(found.program, r".*kernel_size"))

# Clone with one value overridden, and see the difference.
first = found.program.args[1].args[0]
other = 5 if first.kernel_size == 3 else 3
edited = found.program.clone(deep=True, override={"args[1].args[0].kernel_size": other})
print(pg.diff(found.program, edited))


# Rebind with a rule: all blocks of expansion 1 or 2 get 3. Rules see path, value and parent.
def expand(path, value, parent):
    return 3 if str(path).endswith("expansion") and value < 3 else value


edited.rebind(expand, raise_on_no_change=False)
Path("edited.html").write_text(edited.to_html().content)

# Is it still an architecture of the space? Then it can be evaluated, and given to a search.
architecture = sn.Architecture(edited, input=space.input)
print("in the space:", space.contains(architecture))
print("evaluated by hand:", task.evaluate(architecture)["accuracy"])

again = sn.search(
    space, alg.RegularizedEvolution(population_size=3, tournament_size=2), task,
    maximize="accuracy", initial=[architecture], trials=5, study="edit.db", name="from the edit",
)  # fmt: skip
print("the search began with it:", again.trials[0].architecture == architecture)

# Outside the space, it is a network all the same.
edited.rebind({"args[1].args[0].kernel_size": 7})
print("in the space:", space.contains(edited))
print(sn.Architecture(edited).build()[1][0].body[3])
