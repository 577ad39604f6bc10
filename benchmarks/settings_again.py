"""How good the settings of recipes are with other seeds, on the pictures that a search used.

    python benchmarks/settings_again.py digits-baseline runs/digits-baseline-search/best.toml \
        --data DIR --epochs 3 --limit 10000 --seeds 2 3

Prints the validation and the test accuracy of each recipe and seed.
"""

from __future__ import annotations

import argparse

from msgspec.structs import replace

from training import loop, report, search
from training.api import load, with_changes

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("recipes", nargs="+")
parser.add_argument("--data")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--limit", type=int, default=10_000)
parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3])
arguments = parser.parse_args()

for name in arguments.recipes:
    recipe = with_changes(name, epochs=arguments.epochs)
    data = search.limited(load(recipe, arguments.data), arguments.limit, recipe.seed)
    for seed in arguments.seeds:
        run = loop.Run(replace(recipe, seed=seed), data)
        for _ in range(arguments.epochs):
            run.history.append(run.epoch())
            run.keep_if_best()
        run.classifier.load_state_dict(run.best)
        told = loop.predict(run.classifier, data.test).numpy()
        tested = report.metrics(data.test.labels.numpy(), told)["accuracy"]
        best = run.history[run.best_epoch - 1]["validation_accuracy"]
        print(f"{recipe.name}, seed {seed}: validation {best:.2%}, test {tested:.2%}", flush=True)
