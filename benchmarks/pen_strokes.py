"""How right the served model is on pen strokes: digits, and what is none.

    python benchmarks/pen_strokes.py --data DIR [--donors NAME …] [--count 2000] [--scores MNIST]

DIR holds strokes as `training.datasets.strokes` reads them. Each figure is drawn and sent through
`/api/predict` inside this process: the digits of the donors, their letters and signs, and doodles.
Prints Markdown tables. With --scores, what else could tell that a picture shows no digit is
compared, by the same network; MNIST is the folder of its files.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from flask.testing import FlaskClient
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import model_store
from app import create_app
from tasks.normaliser import normalise
from training import report
from training.datasets import doodles, strokes
from training.datasets.mnist import load_mnist

MADE = "doodles"
OTHERS = "letters and signs"


def drawn(folder: Path, donors: Sequence[str], count: int) -> list[tuple[str, Image.Image]]:
    """Up to `count` digits, others and made ones each, drawn: their label or kind, the picture."""
    random = np.random.default_rng(3)
    figures = [each for each in strokes.read(folder) if not donors or each.donor in donors]
    digits = [each for each in figures if each.label.isdigit()]
    others = [each for each in figures if each.label in strokes.OTHERS]
    kinds = [doodles.DOODLES[at % len(doodles.DOODLES)] for at in range(count // 2)]
    made = [[doodles.shaky(each, random) for each in kind(random)] for kind in kinds]
    chosen: list[tuple[str, Sequence[strokes.Stroke]]] = []
    for group in (digits, others):
        places = random.permutation(len(group))[:count].tolist()
        chosen += [(group[at].label, group[at].strokes) for at in places]
    chosen += [(MADE, shape) for shape in made]
    return [
        (label if label.isdigit() or label == MADE else OTHERS, strokes.draw(shape, random))
        for label, shape in chosen
    ]


def served(client: FlaskClient, pictures: list[tuple[str, Image.Image]]) -> None:
    """Prints how the server answers."""
    kinds: dict[str, list[str]] = {}
    wrong: Counter[str] = Counter()
    truth, scores = [], []
    for label, picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        answer = client.post("/api/predict", data=buffer.getvalue(), content_type="image/png")
        result = answer.get_json().get("results", [{"label": "", "verdict": "", "score": 0}])[0]
        kinds.setdefault("digits" if label.isdigit() else label, []).append(result["verdict"])
        if label.isdigit():
            truth.append(result["label"] == label)
            scores.append(result["score"])
            wrong[label] += result["label"] != label
    print(f"\n| {len(truth)} digits | |\n| --- | --- |")
    print(f"| right | {np.mean(truth):.2%} |")
    said = np.array([[score, 1 - score] for score in scores])
    right = np.where(truth, said.argmax(1), 1 - said.argmax(1))
    print(f"| calibration error | {report.calibration_error(right, said):.2%} |")
    print(f"| wrong, by digit | {dict(sorted(wrong.items()))} |")
    print("\n| pictures | `none` | `unsure` | `sure` |\n| --- | --- | --- | --- |")
    for kind, verdicts in kinds.items():
        shares = [
            f"{verdicts.count(each) / len(verdicts):.2%}" for each in ("none", "unsure", "sure")
        ]
        print(f"| {len(verdicts)} {kind} | {' | '.join(shares)} |")


@torch.inference_mode()
def compared(folder: Path, pictures: list[tuple[str, Image.Image]], mnist: Path) -> None:
    """Prints how well each score of the checkpoint in `folder` tells digits from others."""
    module, card = model_store.load(folder)
    classifier = getattr(module, "classifier", module)
    count = len(card.labels)
    seen, labels = load_mnist(mnist, train=True)

    def batch(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities (N, K + 1), logits of each column (C, N, K + 1) and features (N, F)."""
        given = classifier.normalised(values.float() / 255)
        columns: list[nn.Module] = list(classifier.network.columns.children())
        features, logits = [], []
        for column in columns:
            layers = list(column.children())
            held = given
            for layer in layers[:-1]:
                held = layer(held)
            features.append(held)
            logits.append(layers[-1](held))
        return module(values), torch.stack(logits), torch.cat(features, 1)

    def all_of(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = [batch(each) for each in values.split(250)]
        return (
            torch.cat([p[0] for p in parts]),
            torch.cat([p[1] for p in parts], 1),
            torch.cat([p[2] for p in parts]),
        )

    values = torch.from_numpy(np.stack([normalise(picture) for _, picture in pictures]))[:, None]
    probabilities, logits, features = all_of(values)
    _, _, known = all_of(seen[:2000])
    means = torch.stack([known[labels[:2000] == label].mean(0) for label in range(count)])
    deviation = known.std(0) + 1e-3
    distance = torch.cdist(features / deviation, means / deviation).min(1).values
    own = probabilities[:, :count]
    own = own / own.sum(1, keepdim=True)
    best = own.topk(2).values
    scores = {
        "best score": 1 - best[:, 0],
        "margin of the two best": -(best[:, 0] - best[:, 1]),
        "entropy": -(own * own.clamp_min(1e-12).log()).sum(1),
        "energy": -logits[:, :, :count].logsumexp(2).mean(0),
        "distance of features to the nearest digit's mean": distance,
    }
    if card.rejects:
        scores["the output “none”"] = probabilities[:, count]
    is_digit = np.array([label.isdigit() for label, _ in pictures])
    print("\n| score | AUROC | digits refused at 95 % of the others caught | at 90 % |")
    print("| --- | --- | --- | --- |")
    for name, score in scores.items():
        told: NDArray[np.float64] = score.double().numpy()
        refused = [
            (told[is_digit] >= np.quantile(told[~is_digit], 1 - caught)).mean()
            for caught in (0.95, 0.90)
        ]
        area = roc_auc_score(~is_digit, told)
        print(f"| {name} | {area:.4f} | {refused[0]:.2%} | {refused[1]:.2%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--donors", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--count", type=int, default=2000, metavar="N")
    parser.add_argument("--scores", type=Path, metavar="MNIST")
    arguments = parser.parse_args()
    pictures = drawn(arguments.data, arguments.donors, arguments.count)
    app = create_app()
    served(app.test_client(), pictures)
    if arguments.scores:
        folder = Path(app.config["MODEL_STORE"]) / app.config["DEFAULT_MODEL"]
        compared(folder, pictures, arguments.scores)


if __name__ == "__main__":
    main()
