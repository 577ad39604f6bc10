"""The offline package: data sets, architectures, recipes, the loop, reports and export."""

from training.api import evaluate, export, train

__all__ = ["evaluate", "export", "train"]
