"""The contract between training and serving: checkpoints, their cards, and preprocessing."""

from model_store.card import Card, CardError
from model_store.store import ROOT, StoreError, folders, load, read_card, save, unsaid_deprecation

__all__ = [
    "ROOT",
    "Card",
    "CardError",
    "StoreError",
    "folders",
    "load",
    "read_card",
    "save",
    "unsaid_deprecation",
]
