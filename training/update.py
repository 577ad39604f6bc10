"""A new version of a model that has learnt from what people reported, if it is better."""

from __future__ import annotations

import fcntl
import hashlib
import io
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch
from msgspec.structs import replace as struct_replace
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import model_store
from model_store import Card
from tasks import InputSpec
from training import api, datasets, gate, loop, report
from training import recipe as recipes
from training.api import Places, Say
from training.datasets import Data, Part
from training.datasets.parts import duplicates, together
from training.datasets.splits import sample
from training.distil import taught_by
from training.errors import TrainingError
from training.gate import Mask, Paired
from training.optimisers import make_optimiser
from training.progress import Progress
from training.recipe import FineTuneRecipe, NetworkRecipe, OptimiserRecipe, Recipe, UpdateRecipe

if TYPE_CHECKING:
    from reports import Accepted

NONE = "none"  # of the labels
MOST_TIMES = 100  # that a report is repeated in an epoch


@dataclass(frozen=True)
class Reports:
    """Reports that a model can use: pictures with their labels, and the reporter of each."""

    part: Part
    reporters: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.part)

    def subset(self, chosen: Mask) -> Reports:
        """The reports that `chosen` (N,) selects."""
        return Reports(self.part.subset(torch.from_numpy(chosen)), self.reporters[chosen])


@dataclass(frozen=True)
class Updated:
    """The outcome of an update.

    `refusal` says why the new version may not be published, if so; else `card` is its card, and
    `published` its folder in the store, if it was published. `figures` are those of the report's
    section. `report_failure` says why the report could not be written, if so.
    """

    folder: Path
    figures: dict[str, Any]
    refusal: str = ""
    card: Card | None = None
    report_failure: str = ""
    published: Path | None = None


def update(
    name: str,
    accepted: Iterable[Accepted],
    data: Places | None = None,
    *,
    store: str | Path = model_store.ROOT,
    recipe: str | Path | Recipe | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    dry_run: bool = False,
    resume: bool = False,
    say: Say = print,
) -> Updated:
    """Trains the current version of the model `name` in `store` further, on the `accepted` reports
    and its recipe's own `data`, and publishes the new version if it passes the gate.

    [update] of `recipe`, or else of the recipe in the model's card, says how. The files are written
    into `out` (runs/NAME-update). With `dry_run` nothing is published; `resume` continues an
    interrupted run. Raises `TrainingError`, `StoreError` or `OSError`.
    """
    place = Path(store) / name
    if not place.is_dir():
        known = ", ".join(each.name for each in model_store.folders(Path(store)))
        raise TrainingError(f"there is no model {name} in the store {store}; it has {known}")
    folder = Path(out) if out is not None else Path("runs") / f"{name}-update"
    with _locked(place), api.logged(folder, say, keep=resume) as tell:
        current = model_store.current_folder(place).resolve()
        network, card = model_store.load(current)
        own = own_recipe(card)
        how = own.update if recipe is None else api.with_changes(recipe).update
        reports, left_out = usable(accepted, card, how.most_each)
        learnt, tested = split(reports, how)
        figures: dict[str, Any] = {
            "from": card.version,
            "learnt": counts(learnt, card.labels),
            "held_back": counts(tested, card.labels),
            "left_out": left_out,
        }
        tell(
            f"{name} {card.version}: {len(learnt)} reports to learn from, {len(tested)} held back, "
            f"{sum(left_out.values())} left out"
        )

        def refused(reason: str) -> Updated:
            figures["refusal"] = reason
            report.write_reported(folder, figures)
            tell(f"Not published: {reason}")
            return Updated(folder, figures, reason)

        before = right(network, card.thresholds, tested.part, len(card.labels))
        if reason := hopeless(before, how):
            return refused(reason)
        held = original_data(card, own, data)
        before_apart, learnt = len(learnt), apart(learnt, held)
        if len(learnt) < before_apart:
            left_out["in_its_tests"] = before_apart - len(learnt)
            figures["learnt"] = counts(learnt, card.labels)
        check_validation(held, how)
        present = Answers.of(network, card.thresholds, held)
        progress = Progress(folder, resume=resume)
        taught = rehearsed(network, card, held, learnt, how=how, own=own)
        with api.to_be_resumed(folder):
            result = loop.train(
                tuned(own, how, current, len(taught.training)),
                taught,
                folder,
                resume=resume,
                say=tell,
                each_epoch=progress.epoch,
                device=device,
            )
        after = right(result.classifier, result.thresholds, tested.part, len(card.labels))
        new = Answers.of(result.classifier, result.thresholds, held)
        if reason := judge(Paired.of(before, after), present.beside(new), how, figures):
            return refused(reason)
        made = replace(result, recipe=own)
        card, failure = api.write_run(made, held, folder, name, progress, reported=figures)
        updated = Updated(folder, figures, card=card, report_failure=failure)
        if dry_run:
            return updated
        return replace(updated, published=model_store.add_version(folder, place))


def own_recipe(card: Card) -> Recipe:
    """The recipe that a model was trained with; raises `TrainingError` where there is none."""
    try:
        return msgspec.convert(card.recipe, Recipe)
    except msgspec.ValidationError as error:
        raise TrainingError(
            f"{card.name} cannot be trained further: it was imported or made of other models, or "
            f"its card is too old ({error}); train a model on the reports that `glimpse reports "
            "export` writes"
        ) from error


def original_data(card: Card, own: Recipe, data: Places | None) -> Data:
    """The data that the model of `card` was trained on; raises `TrainingError`."""
    spec = InputSpec(card.input.shape, card.preprocessing)
    held = datasets.load(own.data, api.as_paths(data), own.task, spec)
    if held.labels != card.labels or held.rejects != card.rejects:
        raise TrainingError(
            f"the data's labels ({', '.join(held.labels)}) are not those of {card.name} "
            f"({', '.join(card.labels)}); give the data that it was trained on"
        )
    return held


def usable(
    accepted: Iterable[Accepted], card: Card, most_each: int
) -> tuple[Reports, dict[str, int]]:
    """The reports that the model of `card` can use, oldest first, at most the newest `most_each` of
    a reporter; and how many are left out, by the reason. Of the same picture the newest counts.
    """
    left_out: Counter[str] = Counter()
    held: Counter[str] = Counter()
    found: dict[bytes, tuple[NDArray[np.uint8], int, str]] = {}
    for each in sorted(accepted, key=lambda one: one.created, reverse=True):
        pixels = _pixels(each.picture, card.input.shape)
        if each.label is None and not card.rejects:
            left_out["none_of_the_labels"] += 1
        elif each.label is not None and each.label not in card.labels:
            left_out["unknown_label"] += 1
        elif pixels is None:
            left_out["another_size"] += 1
        elif pixels.tobytes() in found:
            left_out["repeated"] += 1
        elif held[each.reporter] == most_each:
            left_out["too_many_of_one_reporter"] += 1
        else:
            held[each.reporter] += 1
            label = len(card.labels) if each.label is None else card.labels.index(each.label)
            found[pixels.tobytes()] = pixels, label, each.reporter
    if not found:
        raise TrainingError(
            f"there are no accepted reports that {card.name} can learn from "
            f"({sum(left_out.values())} left out); accept some on /review"
        )
    pictures, labels, reporters = zip(*reversed(found.values()), strict=True)
    part = Part(torch.from_numpy(np.stack(pictures)), torch.tensor(labels))
    return Reports(part, np.array(reporters)), dict(left_out)


def _pixels(content: bytes, shape: tuple[int, int, int]) -> NDArray[np.uint8] | None:
    """A PNG as uint8 (C, H, W); nothing where it has another `shape`, or cannot be read."""
    try:
        image = Image.open(io.BytesIO(content), formats=("PNG",))
        if image.mode != ("L" if shape[0] == 1 else "RGB") or image.size != (shape[2], shape[1]):
            return None
        pixels = np.asarray(image)
    except OSError:
        return None
    planes: NDArray[np.uint8] = pixels.reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1)
    return planes


def split(reports: Reports, how: UpdateRecipe) -> tuple[Reports, Reports]:
    """The reports to learn from, and those held back, by reporter.

    Reporters have a fixed order that looks random, and the first ones are held back: mostly the
    same from one update to the next. Of those that an older version has learnt from, both versions
    know the pictures. Raises `TrainingError` where there are too few.
    """
    count, fewest = len(reports), gate.fewest_won(how.level)
    names, sizes = np.unique(reports.reporters, return_counts=True)
    if len(names) < 2:
        raise TrainingError(
            f"all {count} reports are by one reporter: they cannot be learnt from and be a fair "
            "test too; wait for those of others"
        )
    order = sorted(
        range(len(names)), key=lambda at: hashlib.sha256(str(names[at]).encode()).digest()
    )
    wanted, total = max(how.held_back * count, fewest), 0
    tested: list[int] = []
    for at in order:
        if total + sizes[at] <= wanted and len(tested) < len(names) - 1:
            tested.append(at)
            total += int(sizes[at])
    if total < fewest:  # only large ones are left
        tested = [min(order, key=lambda at: (sizes[at] < fewest, sizes[at]))]
        total = int(sizes[tested[0]])
    if total < fewest or total == count:
        raise TrainingError(
            f"{count} reports by {len(names)} reporters are too few: {fewest} at least are held "
            "back to test a new version, and it learns from those of other reporters; wait for more"
        )
    is_tested = np.isin(reports.reporters, names[tested])
    return reports.subset(~is_tested), reports.subset(is_tested)


def counts(reports: Reports, labels: list[str]) -> dict[str, Any]:
    """How many reports there are, of how many reporters, and of each label."""
    each = np.bincount(reports.part.labels, minlength=len(labels))
    return {
        "count": len(reports),
        "reporters": len(np.unique(reports.reporters)),
        "labels": {name: int(own) for name, own in zip([*labels, NONE], each, strict=False) if own},
    }


def apart(learnt: Reports, data: Data) -> Reports:
    """The reports without pictures that test the model anyway; raises `TrainingError` where none
    are left.
    """
    known = duplicates(learnt.part, [data.validation, data.test, *data.others.values()])
    if known.all():
        raise TrainingError(
            "all reports to learn from show pictures of the validation or the test part; wait for "
            "others"
        )
    return learnt.subset(~known.numpy())


def check_validation(data: Data, how: UpdateRecipe) -> None:
    """Raises `TrainingError` where the validation part is too small for the gate."""
    count = int((data.validation.labels < len(data.labels)).sum())
    fewest = gate.fewest_pictures(how.most_loss, how.level)
    if count < fewest:
        possible = Paired(count, count, count, 0, 0).most_lost(how.level)
        raise TrainingError(
            f"{count} validation pictures are too few to show that a new version loses less than "
            f"{how.most_loss:.2%} of accuracy ({fewest} would do): give more, or a recipe "
            f"(--recipe) whose “update.most_loss” is {math.ceil(possible * 1e3) / 1e3:g} or more"
        )


def right(network: nn.Module, thresholds: Mapping[str, float], part: Part, labels: int) -> Mask:
    """Which pictures of `part` a network that knows so many `labels` gets right as it is served:
    the label, or the verdict that a picture shows none of them.
    """
    own, none = loop.split_scores(loop.predict(network, part), labels)
    is_refused = none > thresholds.get(NONE, 1.0)
    is_found = (own.argmax(1) == part.labels) & ~is_refused
    mask: Mask = torch.where(part.labels == labels, is_refused, is_found).numpy()
    return mask


@dataclass(frozen=True)
class Answers:
    """What a version gets right of the validation part: the label of the pictures of one, whatever
    its verdict, as its accuracy is counted; and that the `others` show none.
    """

    validation: Mask
    others: Mask

    @classmethod
    def of(cls, network: nn.Module, thresholds: Mapping[str, float], data: Data) -> Answers:
        """Of a network with a card's `thresholds`."""
        count, part = len(data.labels), data.validation
        own, none = loop.split_scores(loop.predict(network, part), count)
        is_other = part.labels == count
        is_found = (own.argmax(1) == part.labels)[~is_other]
        return cls(is_found.numpy(), (none > thresholds.get(NONE, 1.0))[is_other].numpy())

    def beside(self, new: Answers) -> tuple[Paired, Paired]:
        """Beside those of a new version: of the pictures of a label, and of the others."""
        return Paired.of(self.validation, new.validation), Paired.of(self.others, new.others)


def hopeless(before: Mask, how: UpdateRecipe) -> str:
    """Why no new version could pass, if the present one is right on almost all reports."""
    wrong, fewest = int((~before).sum()), gate.fewest_won(how.level)
    if wrong >= fewest:
        return ""
    return (
        f"the present version is right on all but {wrong} of the {len(before)} reports "
        f"held back: too few mistakes to tell a better one by ({fewest} at least)"
    )


def judge(
    reports: Paired,
    original: tuple[Paired, Paired],
    how: UpdateRecipe,
    figures: dict[str, Any],
) -> str:
    """The gate: why the new version may not be published, or nothing; adds to the `figures`.

    It must be better on the reports held back, by McNemar's exact test, and of the `original`
    validation part its accuracy must be worse by less than `most_loss`, by Tango's test. Of the
    pictures of none of the labels, it must not catch significantly fewer.
    """
    validation, others = original
    figures["test"] = {**asdict(reports), "p": reports.p_better}
    figures["validation"] = {
        **asdict(validation),
        "p": validation.p_loses(how.most_loss),
        "most_lost": validation.most_lost(how.level),
    }
    if others.count:
        figures["others"] = {**asdict(others), "p_worse": others.p_worse}
    figures |= {"level": how.level, "most_loss": how.most_loss}
    if reports.p_better > how.level:
        return (
            f"it is not better on the reports held back ({reports.before} of {reports.count} right "
            f"before, {reports.after} after; p = {reports.p_better:.3f}, {how.level:g} at most)"
        )
    if validation.p_loses(how.most_loss) > how.level:
        return (
            f"its validation accuracy may be {validation.most_lost(how.level):.2%} lower "
            f"({validation.before} of {validation.count} right before, {validation.after} after), "
            f"and {how.most_loss:.2%} is the most that may be lost"
        )
    if others.p_worse <= how.level:
        return (
            f"it tells fewer of the validation pictures that show none of the labels "
            f"({others.before} of {others.count} before, {others.after} after)"
        )
    return ""


def tuned(own: Recipe, how: UpdateRecipe, current: Path, pictures: int) -> Recipe:
    """The recipe of an update by so many `pictures`: `own`, from the checkpoint in the folder
    `current` on, as in its last phase but slower.

    A moving average of the weights that still holds some of the old ones forgets less, and does
    better on what is new; after Wortsman et al., “Robust fine-tuning of zero-shot models” (2022).
    """
    fitted = recipes.fitted(own, pictures)
    steps = how.epochs * -(-pictures // fitted.batch_size)
    options = own.optimiser.options
    lr = options.get("lr") or make_optimiser(own.optimiser, nn.Linear(1, 1)).defaults["lr"]
    is_fine_tuned = own.fine_tune.epochs > 0
    return struct_replace(
        own,
        network=NetworkRecipe(base=str(current)),
        normalise="base",
        optimiser=OptimiserRecipe(own.optimiser.name, {**options, "lr": how.lr * lr}),
        augmentation=own.fine_tune.augmentation if is_fine_tuned else own.augmentation,
        label_smoothing=0.0 if is_fine_tuned else own.label_smoothing,
        fine_tune=FineTuneRecipe(),
        transfer=struct_replace(own.transfer, head_epochs=0),
        epochs=how.epochs,
        schedule="linear",
        average=how.old_weights ** (1 / steps),
        batch_size=fitted.batch_size,
        choose_by="last",
        patience=0,
        update=how,
    )


def rehearsed(
    network: nn.Module,
    card: Card,
    data: Data,
    learnt: Reports,
    *,
    how: UpdateRecipe,
    own: Recipe,
) -> Data:
    """`data` whose training part is a sample of it and the reports, repeated.

    With `how.distil` the target of the sample is in part what the `network` of `card` answers
    already, so that it changes less there; after Li and Hoiem, “Learning without forgetting”
    (2016).
    """
    part = data.training
    most = min(how.rehearsal, int(own.data.memory * 1e9) // math.prod(part.shape))
    chosen = sample(part.labels, max(most, 1), own.seed % 2**32)
    start, stop = (int((chosen < at).sum()) for at in (data.synthetic.start, data.synthetic.stop))
    sampled = replace(data, training=part.subset(chosen), synthetic=range(start, stop))
    if how.distil:
        sampled = taught_by(network, card, sampled, temperature=1.0, share=how.distil)
    wanted = how.reports / (1 - how.reports) * len(chosen)
    times = min(max(round(wanted / len(learnt)), 1), MOST_TIMES)
    repeated = learnt.part.subset(torch.arange(len(learnt)).repeat(times))
    return replace(sampled, training=together(sampled.training, repeated))


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Holds the model's folder `place`: raises `TrainingError` while another update does.

    The system lets go of it when the process ends, however it does.
    """
    held = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise TrainingError(
            f"another update of {place.name} is running: wait until it has ended"
        ) from error
    finally:
        os.close(held)
