"""Several checkpoints as one: their probabilities, averaged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

import model_store
from model_store import Card
from tasks import InputSpec
from training import checkpoint, loop, report
from training.api import (
    Places,
    Say,
    Trained,
    as_paths,
    checkpoint_folder,
    data_recipe,
    label_places,
    plain_name,
    write_report,
)
from training.datasets import Part, load
from training.errors import TrainingError
from training.recipe import DataRecipe

# What is the same in all cards of an ensemble.
ASKED_OF_PARTS: dict[str, Callable[[Card], object]] = {
    "their tasks": lambda card: card.task,
    "their labels": lambda card: ", ".join(card.labels),
    "whether they reject": lambda card: card.rejects,
    "their inputs": lambda card: " × ".join(map(str, card.input.shape)),
    "how their pictures are prepared": lambda card: dict(card.preprocessing),
}
# The keys of a recipe's data that say which pictures are for training, validation and test.
OLDER_NAMES = {"folders": "pictures", "arrays": "pictures"}
SPLIT = ("name", "validation", "test", "split", "folds", "fold", "split_seed")


class Ensemble(nn.Module):
    """Networks whose probabilities are averaged; takes and gives what each of them does.

    The logits are the logarithm of the mean probability, which `temperature` divides.
    """

    def __init__(self, parts: Sequence[nn.Module], temperature: float = 1.0) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.temperature = temperature

    def tta_logits(self, pictures: Tensor) -> Tensor:
        """Logits (N, K) of uint8 pictures, before the temperature."""
        shares = torch.stack([part(pictures) for part in self.parts])
        return shares.mean(dim=0).clamp_min(1e-12).log()

    def forward(self, pictures: Tensor) -> Tensor:
        """Probabilities (N, K) of uint8 pictures (N, C, H, W)."""
        return functional.softmax(self.tta_logits(pictures) / self.temperature, dim=1)


class ExplainedEnsemble(Ensemble):
    """An ensemble with heat maps: the mean of its parts', each scaled to a maximum of 1, since
    their logits have different scales. `size` is the height and width of the map.
    """

    def __init__(self, parts: Sequence[nn.Module], temperature: float, size: list[int]) -> None:
        super().__init__(parts, temperature)
        self.size = size

    @torch.jit.export
    def heat(self, pictures: Tensor, labels: Tensor) -> Tensor:
        """Heat, float32 (N, h, w), of uint8 pictures for `labels`, int64 (N,)."""
        maps: list[Tensor] = []
        for part in self.parts:
            heat: Tensor = part.heat(pictures, labels).unsqueeze(1)  # type: ignore[operator]
            heat = heat / heat.amax(dim=(2, 3), keepdim=True).clamp_min(1e-12)
            maps.append(
                functional.interpolate(heat, self.size, mode="bilinear", align_corners=False)
            )
        return torch.cat(maps, dim=1).mean(dim=1)


def ensemble(
    models: Sequence[str | Path],
    data: Places | None = None,
    *,
    name: str,
    out: str | Path | None = None,
    store: str | Path = model_store.ROOT,
    publish: str | Path | None = None,
    say: Say = print,
) -> Trained:
    """Makes one checkpoint of several `models`, which are named as for `training.evaluate`.

    The temperature is fitted on the validation part of the first one's data, and the report is of
    its test part. The files are written into `out` (runs/NAME) and, with `publish`, a store's
    folder, added there as the version that is served. Raises `TrainingError` or `StoreError`.
    """
    name = plain_name(name)
    folders = [checkpoint_folder(model, store) for model in models]
    cards = [model_store.read_card(folder) for folder in folders]
    check_fit(cards)
    networks = [model_store.load(folder)[0] for folder in folders]
    card = cards[0]
    split = next(filter(None, map(data_of, cards)), None) or data_recipe(card)
    held = load(
        split,
        as_paths(data),
        card.task,
        InputSpec(card.input.shape, card.preprocessing),
    )
    places = label_places(card, held.labels)
    validation = Part(held.validation.source, places[held.validation.labels])
    logits = Ensemble(networks)
    temperature = loop.fit_temperature(logits, validation, len(card.labels))

    pairs = [checkpoint.forms(each, own) for each, own in zip(networks, cards, strict=True)]
    whole, for_onnx = (_joined(parts, card, temperature) for parts in zip(*pairs, strict=True))
    scores, rejected = loop.predict(whole, held.test), {}
    if card.rejects:
        # As many of the labels' pictures are refused as by the first model.
        none = loop.predict(whole, validation)
        rejected["none"] = loop.reject_threshold(none, validation, most_refused(card))
    tested = report.Tested.of(places[held.test.labels], scores, len(card.labels), rejected)
    today = checkpoint.today_utc()
    made = Card(
        name=name,
        version=checkpoint.version(today, checkpoint.fingerprint(whole)),
        task=card.task,
        labels=card.labels,
        input=card.input,
        preprocessing=card.preprocessing,
        metrics={
            "validation_accuracy": loop.evaluate(whole, validation, 0.0)[1],
            **{f"test_{key}": value for key, value in tested.figures().items()},
            "temperature": temperature,
        },
        recipe={
            "name": name,
            "ensemble": [
                {"name": own.name, "version": own.version, "sha256": own.sha256} for own in cards
            ],
            "data": msgspec.to_builtins(split),
        },
        data=held.description,
        date=today.isoformat(),
        libraries=checkpoint.libraries(),
        description=f"The mean of {', '.join(f'{own.name} {own.version}' for own in cards)}.",
        limits=list(dict.fromkeys(limit for own in cards for limit in own.limits)),
        parameters=sum(own.parameters for own in cards),
        thresholds=rejected,
    )
    folder = Path(out) if out is not None else Path("runs") / name
    pictures = validation.batch(torch.arange(min(64, len(validation))))
    made = checkpoint.write(whole, for_onnx, made, pictures, folder)
    write_report(folder, made, tested, held.test, split.name)
    for own in cards:
        if "test_accuracy" in own.metrics:
            say(f"{own.name} {own.version}: test accuracy {own.metrics['test_accuracy']:.2%}")
    trained = Trained(made, folder, [], 0.0)
    low, high = trained.interval
    say(
        f"{name} {made.version}: test accuracy {trained.accuracy:.2%} "
        f"(95 % interval {low:.2%} to {high:.2%})"
    )
    if publish is None:
        return trained
    place = model_store.add_version(folder, Path(publish) / name)
    return dataclasses.replace(trained, published=place)


def check_fit(cards: Sequence[Card]) -> None:
    """Raises `TrainingError` where the models of these cards cannot answer together."""
    if len(cards) < 2:
        raise TrainingError("an ensemble has two models or more: name another one")
    first = cards[0]
    for other in cards:
        if not other.sha256:
            raise TrainingError(
                f"{other.name} is an ONNX file alone: an ensemble takes models with model.pt"
            )
        for what, has in ASKED_OF_PARTS.items():
            if has(other) != has(first):
                raise TrainingError(
                    f"{first.name} and {other.name} do not fit together: {what}, "
                    f"{has(first)} and {has(other)}, differ"
                )
        check_split(first.name, data_of(first), other.name, data_of(other))


def most_refused(card: Card) -> float:
    """The share of the labels' pictures that a model's recipe lets it refuse."""
    return float(card.recipe.get("most_refused", 0.003))


def check_split(first: str, one: DataRecipe | None, second: str, two: DataRecipe | None) -> None:
    """Raises `TrainingError` if the model `first`, trained on the data `one`, may have learnt what
    the model `second` is tested on, or the other way round. Without data, nothing is known.
    """
    if one is None or two is None:
        return

    def held(data: DataRecipe, key: str) -> object:
        value = getattr(data, key)
        return OLDER_NAMES.get(value, value) if key == "name" else value

    if differing := [key for key in SPLIT if held(one, key) != held(two, key)]:
        raise TrainingError(
            f"the data of {first} and {second} are split differently ({', '.join(differing)}): "
            "one may have learnt what the other is tested on; train both with the same [data]"
        )


def data_of(card: Card) -> DataRecipe | None:
    """The data that a model was trained with; none if its card does not say, as of imported ones.

    Raises `TrainingError`.
    """
    return data_recipe(card) if "data" in card.recipe else None


def _joined(
    parts: Sequence[torch.jit.ScriptModule], card: Card, temperature: float
) -> torch.jit.ScriptModule:
    """The ensemble of these parts as TorchScript, with heat if all of them have it."""
    whole = Ensemble(parts, temperature)
    if all(hasattr(part, model_store.HEAT) for part in parts):
        picture = torch.zeros(1, *card.input.shape, dtype=torch.uint8)
        sizes = [part.heat(picture, torch.tensor([0])).shape[1:] for part in parts]
        size = [max(size[axis] for size in sizes) for axis in (0, 1)]
        whole = ExplainedEnsemble(parts, temperature, size)
    with model_store.unsaid_deprecation():
        return torch.jit.script(whole.eval())
