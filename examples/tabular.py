"""How wide should the layers of a network for a table be, if it may have 5,000 parameters?

    python examples/tabular.py

The table is of diamonds: 7 numbers and 2 categories, from which to tell how well each is cut (5
classes). TabNAS draws only networks within the limit. Takes about fifteen seconds on one core.
"""

from symnas.algorithms.tabnas import TabNAS
from symnas.spaces.tabular import tabular

import symnas as sn
from symnas import cost_models as cm
from symnas import data

diamonds = data.diamonds(8_000)
space = tabular(
    numeric=diamonds.numeric,
    categories=diamonds.categories,
    classes=diamonds.classes,
    widths=(8, 16, 24, 32, 48, 64, 96, 128, 192, 256),
    embedding=4,
)
task = sn.Task(
    diamonds.train, diamonds.validation, test=diamonds.test, epochs=6, lr=5e-3, schedule="onecycle"
)
study = sn.search(
    space,
    TabNAS(epochs=20, probability="exact"),
    task,
    maximize="accuracy",
    subject_to=[cm.Parameters() <= 5_000],
    trials=3,  # the three likeliest are trained alone
    progress=False,
)
best = study.best
widths = [best.architecture[f"width {layer}"] for layer in range(3)]
print(
    f"{space.size:,} networks, {len(study.trials)} trained alone; the best has the widths {widths},"
)
print(
    f"{best.costs['parameters']:,.0f} parameters and validation accuracy {best.metrics['accuracy']:.3f}"
)

model = best.architecture.build()
task.fit(model, epochs=15)
print(f"test accuracy {task.test(model)['accuracy']:.3f} after 15 epochs")
