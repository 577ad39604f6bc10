"""Versions of a model that are switched under load: is an answer lost or mixed, does memory grow?

    python benchmarks/switching.py [--switches 50]

Two versions of the shipped digit model answer the same picture with different labels and scores.
wrk (Debian's package of that name) asks over 8 connections while `current` names now the one, now
the other. Lost is what had no answer of status 200; mixed is an answer whose label and score are
not those of the version that it names. Memory is the PSS of all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import msgspec

import model_store
from benchmarks.server import TOP, Server, ask, free_ports, gunicorn

if TYPE_CHECKING:
    import torch

PICTURE = TOP / "docs" / "seven.png"
CONNECTIONS = 8
ROW = 12  # answers of a version, one after another, by which all workers have taken it
WARM_UP = 6  # switches before memory is measured first
REST = 3.0  # seconds in which workers give back the memory of a version
LEAST = 0.02  # by which the versions' scores differ
VERSIONS = ("2026.01.01-0000001", "2026.01.02-0000002")

# Counts answers by status, version, label and score; prints them at the end, and what failed.
SCRIPT = """
local threads = {}
local file = io.open(os.getenv("PICTURE"), "rb")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = "image/png"

function setup(thread) table.insert(threads, thread) end

function init() counts = {} end

function response(status, headers, body)
  local version = body:match('"version":"([^"]*)"') or ""
  local label = body:match('"label":"([^"]*)"') or ""
  local score = tonumber(body:match('"score":([%d.e-]+)')) or 0
  local key = string.format("%d %s %s %.2f", status, version, label, score)
  counts[key] = (counts[key] or 0) + 1
end

function done(summary)
  for _, thread in ipairs(threads) do
    for key, count in pairs(thread:get("counts")) do print("ANSWERS " .. count .. " " .. key) end
  end
  local found = summary.errors
  print("FAILED " .. found.connect + found.read + found.write + found.timeout)
end
"""


@dataclass
class Switched:
    """What a run has shown."""

    answers: int
    lost: int
    mixed: int
    seconds: float
    slowest: float
    memory: list[float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--switches", type=int, default=50)
    given = parser.parse_args()
    wrk = shutil.which("wrk")
    if wrk is None:
        parser.error("wrk is not installed: apt install wrk")
    print("server | answers | a second | lost | mixed | slowest switch, s | memory, MB")
    print("--- | --- | --- | --- | --- | --- | ---")
    failed = False
    for name, more in (("as shipped", []), ("--preload", ["--preload"])):
        with tempfile.TemporaryDirectory() as place:
            found = run(wrk, Path(place), given.switches, more)
        failed |= bool(found.lost or found.mixed)
        memory = ", ".join(f"{value:.0f}" for value in found.memory)
        print(
            f"{name} | {found.answers} | {found.answers / found.seconds:.0f} | {found.lost} | "
            f"{found.mixed} | {found.slowest:.1f} | {memory}",
            flush=True,
        )
    return int(failed)


def run(wrk: str, place: Path, switches: int, arguments: list[str]) -> Switched:
    """A server under load whose versions are switched so many times."""
    folder = write_store(place)
    (port,) = free_ports(1)
    script = place / "count.lua"
    script.write_text(SCRIPT)
    environment = {"GLIMPSE_MODEL_STORE": str(folder.parent)}
    command = gunicorn(TOP, port, *arguments)
    with Server(command, port, place / "log", environment=environment) as server:
        right = {version: answer(port, f"?model=digits@{version}") for version in VERSIONS}
        (_, one, first), (_, two, second) = right.values()
        assert one != two and abs(first - second) > LEAST
        load = [wrk, "-t1", f"-c{CONNECTIONS}", "-d3600", "--timeout", "30", "-s", str(script)]
        load.append(f"http://127.0.0.1:{port}/api/predict")
        began, slowest, memory = time.monotonic(), 0.0, []
        with subprocess.Popen(
            load, env={**os.environ, "PICTURE": str(PICTURE)}, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                for number in range(WARM_UP + switches):
                    if number >= WARM_UP and (number - WARM_UP) % 10 == 0:
                        memory.append(settled(server))
                    version = VERSIONS[number % 2]
                    model_store.use(folder, version)
                    slowest = max(slowest, taken(port, version))
                memory.append(settled(server))
            finally:
                process.send_signal(2)  # wrk tells what it has counted
                told, _ = process.communicate(timeout=60)
        return counted(told, right, time.monotonic() - began, slowest, memory)


def settled(server: Server) -> float:
    """The memory of a server that has had time to give back that of the version before, MB."""
    time.sleep(REST)
    return server.memory_mb


def taken(port: int, version: str) -> float:
    """The seconds until all workers answer with `version`."""
    began, row = time.monotonic(), 0
    first = began
    while row < ROW:
        row = row + 1 if answer(port)[0] == version else 0
        first = first if row > 1 else time.monotonic()
        assert time.monotonic() - began < 60, f"{version} is not taken"
    return first - began


def answer(port: int, query: str = "") -> tuple[str, str, float]:
    """Version, label and score of an answer."""
    status, body = ask(port, f"/api/predict{query}", PICTURE.read_bytes())
    assert status == 200, body
    found = json.loads(body)
    (result,) = found["results"]
    return found["version"], result["label"], result["score"]


def counted(
    told: str,
    right: dict[str, tuple[str, str, float]],
    seconds: float,
    slowest: float,
    memory: list[float],
) -> Switched:
    """What wrk tells."""
    answers: Counter[str] = Counter()
    lost = mixed = 0
    for line in told.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "FAILED":
            lost += int(rest)
        elif kind == "ANSWERS":
            count, status, version, label, score = rest.split(" ")
            answers[version] += int(count)
            if status != "200":
                lost += int(count)
            elif not is_right(right.get(version), label, float(score)):
                mixed += int(count)
    assert set(answers) >= set(right), f"wrk has told: {told}"
    return Switched(answers.total(), lost, mixed, seconds, slowest, memory)


def is_right(expected: tuple[str, str, float] | None, label: str, score: float) -> bool:
    return expected is not None and label == expected[1] and abs(score - expected[2]) < LEAST / 2


def write_store(place: Path) -> Path:
    """A store with two versions of the shipped digit model, of which the second says the next
    digit, with a lower score; returns the model's folder.
    """
    folder = place / "store" / "digits"
    for number, version in enumerate(VERSIONS):
        module, card = model_store.load(model_store.current_folder(model_store.ROOT / "digits"))
        made = place / f"made-{number}"
        changed = msgspec.structs.replace(
            card.bare(), version=version, date=version[:10].replace(".", "-")
        )
        model_store.save(wrapped(module, len(card.labels), shift=number), changed, made)
        model_store.add_version(made, folder)
    return folder


def wrapped(module: torch.jit.ScriptModule, labels: int, shift: int) -> torch.jit.ScriptModule:
    """The module whose answers are moved by `shift` labels, each step with a tenth less of them."""
    import torch

    class Moved(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.labels, self.shift = module, labels, shift

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            given = self.inner(pictures)
            moved = torch.roll(given[:, : self.labels], self.shift, 1)
            kept = torch.cat((moved, given[:, self.labels :]), 1)
            part = 0.1 * float(self.shift)
            return kept * (1 - part) + part / kept.size(1)

    with model_store.unsaid_deprecation():
        return torch.jit.script(Moved().eval())


if __name__ == "__main__":
    sys.exit(main())
