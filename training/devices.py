"""What computes: the CPU, or a GPU of NVIDIA's, AMD's or Apple's."""

from __future__ import annotations

import os

import torch

from training.errors import TrainingError


def choose(name: str = "auto") -> torch.device:
    """The device `name`: cpu, cuda, cuda:1 or mps, or the best that there is for "auto".

    Raises `TrainingError` where this machine lacks it.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    count = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }.get(device.type)
    if count is None:
        raise TrainingError(f"no device “{name}”; give auto, cpu, cuda, cuda:1 or mps")
    if (device.index or 0) >= count:
        raise TrainingError(
            f"this machine has no device “{name}”, or torch cannot use it; leave it out, or give "
            f"auto or cpu (torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices)"
        )
    if device.type == "cuda":
        return torch.device(
            "cuda", torch.cuda.current_device() if device.index is None else device.index
        )
    return device


def prepare(device: torch.device) -> None:
    """Sets torch up for training there: the fastest convolutions for the shapes at hand, and
    single precision that is single, so that tests give what the CPU's serving gives.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = False


def describe(device: torch.device) -> str:
    """The device for the log and the card."""
    if device.type == "cuda":
        half = " in 16 bits" if half_precision(device) else ""
        return f"{device} ({torch.cuda.get_device_name(device)}){half}"
    if device.type == "cpu":
        half = " in 16 bits" if half_precision(device) else ""
        return f"cpu ({torch.get_num_threads()} threads){half}"
    return str(device)


def half_precision(device: torch.device) -> torch.dtype | None:
    """The 16-bit type in which a network is trained there, or none where it would not pay: GPUs
    with tensor cores, from CUDA's compute capability 7 on, and CPUs where the environment sets
    `GLIMPSE_BFLOAT16` to 1, which pays on those with AVX-512 BF16.
    """
    if device.type == "cpu" and os.environ.get("GLIMPSE_BFLOAT16") == "1":
        return torch.bfloat16
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (7, 0):
        return None
    is_supported = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if is_supported else torch.float16


def moved(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`values` on the device; the copy to a CUDA device does not wait."""
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of torch's own generators, on which dropout depends."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_state(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Brings torch's own generators back into `states`."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that a device's memory, or the machine's, was too small."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error)
    return "allocate memory" in said or "out of memory" in said
