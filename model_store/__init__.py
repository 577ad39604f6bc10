"""The contract between training and serving: checkpoints, their cards, and preprocessing."""

from model_store.card import Card, CardError
from model_store.store import ROOT, StoreError, folders, load, read_card, save, unsaid_deprecation
from model_store.twin import INPUT as TWIN_INPUT
from model_store.twin import TWIN, load_twin, save_twin

__all__ = [
    "ROOT",
    "TWIN",
    "TWIN_INPUT",
    "Card",
    "CardError",
    "StoreError",
    "folders",
    "load",
    "load_twin",
    "read_card",
    "save",
    "save_twin",
    "unsaid_deprecation",
]
