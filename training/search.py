"""A search for the settings with the best validation, by Optuna."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import msgspec
import optuna
import tomli_w
import torch
from optuna.trial import FrozenTrial, Trial, TrialState

from training import bases, devices, loop
from training.api import Places, Say, load, with_changes
from training.architectures import ARCHITECTURES
from training.datasets import Data
from training.errors import TrainingError
from training.recipe import Recipe, Values, fitted, from_table, to_table

mpl.use("Agg")  # pictures are files: no screen is needed
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator

DATABASE = "search.db"
BEST = "best.toml"
OWN = "own"  # the validation of the recipe as it is
DRAWN = 3  # settings whose trials are drawn one by one
UNPRUNED = 5  # the first trials, which run to their end


def ranges(recipe: Recipe) -> dict[str, Values]:
    """What is tried for each key: the recipe's `search`, or else what suits most recipes.

    The recipe leaves nothing open, as `training.recipe.fitted` gives it.
    """
    if recipe.search:
        return recipe.search
    lr, batch = float(recipe.optimiser.options.get("lr", 1e-3)), recipe.batch_size
    found = {
        "optimiser.lr": Values(low=lr / 10, high=lr * 10, log=True),
        "batch_size": Values(choices=[max(2, batch // 2), batch, batch * 2, batch * 4]),
    }
    optimiser = getattr(torch.optim, recipe.optimiser.name, None)
    if optimiser and "weight_decay" in inspect.signature(optimiser).parameters:
        found["optimiser.weight_decay"] = Values(low=1e-6, high=0.1, log=True)
    if recipe.network.name in ARCHITECTURES:
        known = inspect.signature(ARCHITECTURES[recipe.network.name]).parameters
        for name in ("drop_rate", "head_drop_rate"):
            if name in known:
                found[f"network.{name}"] = Values(low=0.0, high=0.6)
        for name in {"width", "widths"} & known.keys():
            own = recipe.network.options.get(name, known[name].default)
            found[f"network.{name}"] = Values(choices=[_scaled(own, by) for by in (0.5, 1, 1.5)])
    strengths = {"rotation": 15.0, "shift": 2.0, "scale": 0.2, "contrast": 0.4, "erase": 0.4}
    for name, usual in strengths.items():
        high = max(usual, 2 * getattr(recipe.augmentation, name))
        found[f"augmentation.{name}"] = Values(low=0.0, high=high)
    return found


def _scaled(width: int | Sequence[int], by: float) -> int | list[int]:
    if isinstance(width, int):
        return max(1, round(width * by))
    return [max(1, round(each * by)) for each in width]


@dataclass(frozen=True)
class Searched:
    """The recipe with the best settings, its file, and all trials as a Markdown table."""

    best: Recipe
    file: Path
    table: str


def search(
    recipe: str | Path | Recipe,
    data: Places | None = None,
    *,
    trials: int = 20,
    epochs: int | None = None,
    limit: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    say: Say = print,
) -> Searched:
    """Tries settings of a recipe until there are `trials` of them; gives the best.

    Each trial has `epochs`, or else all of the recipe's, on `limit` training pictures, or else all.
    The recipe's `choose_by` compares the trials on the validation part; the test part is not used.
    A trial is stopped when it is worse than the median of the trials before it at the same epoch.
    In `out` (runs/NAME-search), search.db holds all trials, and `resume` continues them; search.md,
    search.png and best.toml are written at the end. The other arguments are those of
    `training.train`. Raises `TrainingError`.
    """
    recipe = with_changes(recipe)
    short = with_changes(recipe, epochs=epochs)
    chosen = devices.choose(device)
    if trials < 1:
        raise TrainingError("--trials must be 1 or more")
    if recipe.choose_by == "loss" and "label_smoothing" in recipe.search:
        raise TrainingError(
            "losses with different “label_smoothing” cannot be compared: set “choose_by” to "
            "accuracy, or take “label_smoothing” out of “search”"
        )
    folder = Path(out) if out is not None else Path("runs") / f"{recipe.name}-search"
    held = load(recipe, data)
    if limit is not None:
        held = limited(held, limit, recipe.seed)
    base = bases.read(recipe.network.base) if recipe.network.base else None
    tried = ranges(fitted(recipe, len(held.training), base))
    study = _study(folder, short, held, resume=resume)
    if OWN not in study.user_attrs:
        try:
            own = _trained(short, held, None, chosen)
        except optuna.TrialPruned as reason:
            raise TrainingError(f"with the recipe's own settings, {reason}") from reason
        study.set_user_attr(OWN, own)
        say(f"The recipe's own settings: {_told(own, recipe)}")
    while (done := len(_finished(study))) < trials:
        # With the same seed, a resumed search would begin with what it has tried.
        study.sampler = optuna.samplers.TPESampler(seed=recipe.seed + done)
        trial = study.ask()
        settings = {key: _suggested(trial, key, values) for key, values in tried.items()}
        candidate = with_settings(short, settings)
        try:
            value = _trained(candidate, held, trial, chosen)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "The trials so far are saved: continue with --resume."
            ) from None
        except optuna.TrialPruned as reason:
            study.tell(trial, state=TrialState.PRUNED)
            outcome = f"stopped, {reason}"
        else:
            study.tell(trial, value)
            outcome = _told(value, recipe)
        say(f"Trial {done + 1} of {trials}: {outcome} with {_listed(settings)}")
    if not any(trial.state == TrialState.COMPLETE for trial in study.trials):
        raise TrainingError("no trial came to its end; lower the highest “lr” of “search”")
    _draw(study, recipe, tried, folder / "search.png")
    table = _table(study, recipe, list(tried))
    (folder / "search.md").write_text(table, encoding="utf-8")
    return Searched(_best(study, recipe, folder / BEST), folder / BEST, table)


def with_settings(recipe: Recipe, settings: dict[str, Any]) -> Recipe:
    """The recipe with values for dotted keys, such as “optimiser.lr”; raises `TrainingError`."""
    table = to_table(recipe)
    for key, value in settings.items():
        *places, name = key.split(".")
        held = table
        for place in places:
            held = held.setdefault(place, {})
            if not isinstance(held, dict):
                raise TrainingError(f"the key “{key}” of “search” is not one of a recipe")
        held[name] = value
    return from_table(table, f"the settings {', '.join(settings)} of “search”")


def limited(data: Data, count: int, seed: int) -> Data:
    """`data` with `count` training pictures, drawn at random; synthetic ones stay in proportion."""
    if count < 2:
        raise TrainingError("--limit must be 2 or more")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(data.training), generator=generator)[:count].sort().values
    start, stop = (int((chosen < end).sum()) for end in (data.synthetic.start, data.synthetic.stop))
    description = {**data.description, "training": len(chosen)}
    return replace(
        data,
        training=data.training.subset(chosen),
        synthetic=range(start, stop),
        description=description,
    )


def _study(folder: Path, recipe: Recipe, data: Data, *, resume: bool) -> optuna.Study:
    """The study in the folder's database, new or resumed; raises `TrainingError`."""
    file = folder / DATABASE
    if file.exists() and not resume:
        raise TrainingError(f"{file} holds a search: add --resume, or choose another --out")
    if resume and not file.exists():
        raise TrainingError(f"nothing to resume: there is no {file}; leave --resume out")
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{file.resolve()}",
        study_name="search",
        direction="minimize" if recipe.choose_by == "loss" else "maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED),
        load_if_exists=True,
    )
    asked = json.loads(json.dumps({"recipe": recipe.to_dict(), "data": data.fingerprint}))
    if study.user_attrs.get("asked", asked) != asked:
        raise TrainingError(
            f"{file} is a search with another recipe, --epochs, --limit or data; choose another "
            "--out"
        )
    study.set_user_attr("asked", asked)
    return study


def _trained(recipe: Recipe, data: Data, trial: Trial | None, device: torch.device) -> float:
    """The best validation of a run; raises `optuna.TrialPruned` where it is not worth its time."""
    run = loop.Run(recipe, data, device)
    recipe = run.recipe
    key = f"validation_{recipe.choose_by}"
    epochs = recipe.epochs + recipe.fine_tune.epochs
    while len(run.history) < epochs and not loop.out_of_patience(run):
        try:
            run.history.append(run.epoch())
        except TrainingError as error:  # the loss is no longer a number
            raise optuna.TrialPruned(str(error)) from error
        run.keep_if_best()
        if trial and len(run.history) < epochs:
            trial.report(run.history[-1][key], len(run.history))
            if trial.should_prune():
                raise optuna.TrialPruned(f"worse than the median at epoch {len(run.history)}")
    return run.history[run.best_epoch - 1][key]


def _suggested(trial: Trial, key: str, values: Values) -> Any:
    if values.choices is not None:  # Optuna stores text and numbers, but no lists
        texts = [json.dumps(choice, ensure_ascii=False) for choice in values.choices]
        return json.loads(trial.suggest_categorical(key, texts))
    low, high = values.low, values.high
    assert low is not None
    assert high is not None
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(key, low, high, log=values.log)
    return trial.suggest_float(key, low, high, log=values.log)


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that came to an end, or were stopped as worse; not those that were interrupted."""
    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def _settings(trial: FrozenTrial) -> dict[str, Any]:
    """A trial's values by their dotted keys."""
    return {
        key: json.loads(value) if isinstance(value, str) else value
        for key, value in trial.params.items()
    }


def _listed(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_short(value)}" for key, value in settings.items())


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _told(value: float, recipe: Recipe) -> str:
    shown = f"{value:.4f}" if recipe.choose_by == "loss" else f"{value:.2%}"
    return f"validation {recipe.choose_by} {shown}"


def _best(study: optuna.Study, recipe: Recipe, file: Path) -> Recipe:
    """The recipe with the best trial's settings, and writes it."""
    found = msgspec.structs.replace(
        with_settings(recipe, _settings(study.best_trial)),
        name=f"{recipe.name}-best",
        search={},
        candidates=[],
    )
    told = _told(study.best_value, recipe)
    heading = f"# Found by a search of {recipe.name} in {len(_finished(study))} trials: {told}.\n"
    file.write_text(heading + tomli_w.dumps(to_table(found)), encoding="utf-8")
    return found


def _table(study: optuna.Study, recipe: Recipe, keys: list[str]) -> str:
    """All trials as a Markdown table, best first, below what mattered."""
    sign = 1 if recipe.choose_by == "loss" else -1
    ended = [trial for trial in _finished(study) if trial.state == TrialState.COMPLETE]
    stopped = [trial for trial in _finished(study) if trial.state == TrialState.PRUNED]
    ended.sort(key=lambda trial: sign * (trial.value or 0))
    own = study.user_attrs[OWN]
    no_gain = " No trial was better." if sign * (study.best_value - own) >= 0 else ""
    lines = [
        f"# A search of {recipe.name}",
        "",
        f"{len(ended)} trials came to their end, {len(stopped)} were stopped early. The recipe's "
        f"own settings, as long: {_told(own, recipe)}.{no_gain}",
        "",
        "| setting | importance |",
        "| --- | --- |",
        *(f"| {key} | {share:.2f} |" for key, share in _importances(study).items()),
        "",
        f"| trial | validation {recipe.choose_by} | {' | '.join(keys)} |",
        "| --- " * (len(keys) + 2) + "|",
    ]
    for trial in [*ended, *stopped]:
        told = "stopped"
        if trial.state == TrialState.COMPLETE:
            told = _told(trial.value or 0, recipe).split()[-1]
        values = [_short(_settings(trial)[key]) for key in keys]
        lines.append(f"| {trial.number + 1} | {told} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def _importances(study: optuna.Study) -> dict[str, float]:
    """How much of the differences each setting explains, in 0..1 (functional ANOVA, Hutter et al.,
    2014), highest first; empty where the trials are too few or all alike.
    """
    values = {trial.value for trial in study.get_trials(states=(TrialState.COMPLETE,))}
    return optuna.importance.get_param_importances(study) if len(values) > 1 else {}


def _draw(study: optuna.Study, recipe: Recipe, tried: dict[str, Values], file: Path) -> None:
    """The importance of each setting, and the trials by each of the most important ones."""
    shares = _importances(study)
    shown = list(shares)[:DRAWN]
    figure, panels = plt.subplots(
        1, 1 + len(shown), figsize=(4 * (1 + len(shown)), 4), layout="constrained", squeeze=False
    )
    bars, *scatters = panels[0]
    bars.barh(list(shares)[::-1], list(shares.values())[::-1])
    bars.set(title="What mattered", xlabel="importance")
    trials = study.get_trials(states=(TrialState.COMPLETE,))
    for panel, key in zip(scatters, shown, strict=True):
        points = [(_settings(trial)[key], trial.value) for trial in trials]
        if choices := tried[key].choices:
            points.sort(key=lambda point: choices.index(point[0]))
            points = [(str(choice), value) for choice, value in points]
        panel.plot(*zip(*points, strict=True), "o")
        panel.axhline(study.user_attrs[OWN], linestyle="--", color="grey", label="own settings")
        panel.set(xlabel=key, ylabel=f"validation {recipe.choose_by}")
        if tried[key].log:
            panel.set_xscale("log")
            panel.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            panel.xaxis.set_major_formatter("{x:g}")
            panel.xaxis.set_minor_formatter("{x:g}")
            panel.tick_params(axis="x", which="both", labelrotation=45)
        panel.grid(alpha=0.3)
        panel.legend()
    figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)
