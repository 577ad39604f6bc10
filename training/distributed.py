"""Several processes that train one network together, as torchrun starts them."""

from __future__ import annotations

import atexit
import os
import signal
from types import FrameType
from typing import Any

import torch
from torch import Tensor, distributed, nn

from training.errors import TrainingError

ENDED = (
    "another process of this run ended or cannot be reached; see what it said, and start all of "
    "them again with --resume"
)


def is_started() -> bool:
    """Whether torchrun started this process beside others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def is_writer() -> bool:
    """Whether this process is the one that says things and writes files."""
    return not is_started() or os.environ["RANK"] == "0"


def leave_to_the_first() -> None:
    """Ends this process, unless it is the one that writes."""
    if not is_writer():
        raise SystemExit(0)


def join(device: str) -> str:
    """Joins the other processes, if there are any; returns the device of this one.

    With "auto" or "cuda" each process on a machine takes a GPU of its own. Processes on GPUs
    communicate by NCCL, all others by gloo.
    """
    if not is_started():
        return device
    if device in ("auto", "cuda") and torch.cuda.is_available():
        place = int(os.environ["LOCAL_RANK"])
        if place >= torch.cuda.device_count():
            raise TrainingError(
                f"{os.environ['LOCAL_WORLD_SIZE']} processes, but {torch.cuda.device_count()} "
                "GPUs on this machine: start as many processes as it has GPUs"
            )
        torch.cuda.set_device(place)
        device = f"cuda:{place}"
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        atexit.register(distributed.destroy_process_group)
        signal.signal(signal.SIGTERM, _ended)  # torchrun sends it when another process ended
    return device


def _ended(_number: int, _frame: FrameType | None) -> None:
    raise TrainingError(ENDED)


def size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """The place of this process among them, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def own_share(values: Tensor) -> Tensor:
    """This process's share of `values` (N, ...), along the first dimension."""
    return values.tensor_split(size())[rank()]


def summed(values: Tensor) -> Tensor:
    """The sum of every process's `values`, in place."""
    if size() > 1:
        distributed.all_reduce(values)
    return values


def summed_on_cpu(values: Tensor) -> Tensor:
    """The sum of every process's `values`, which are on the CPU."""
    every: list[Tensor] = gathered(values)
    return torch.stack(every).sum(0)


def gathered(value: Any) -> list[Any]:
    """Every process's `value`, in the order of their places."""
    values: list[Any] = [value] * size()
    if size() > 1:
        distributed.all_gather_object(values, value)
    return values


def is_failure(error: BaseException) -> bool:
    """Whether the error says that another process cannot be reached."""
    if size() == 1:
        return False
    said = str(error)
    return isinstance(error, distributed.DistError) or any(
        word in said for word in ("gloo", "NCCL", "Connection", "Socket")
    )


def shared(value: Any) -> Any:
    """The first process's `value`."""
    values = [value]
    if size() > 1:
        distributed.broadcast_object_list(values)
    return values[0]


class Summed(torch.autograd.Function):
    """The sum of every process's values; its gradient is the sum of every process's gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """The sum."""
        return summed(values.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Its gradient."""
        return summed(gradient.clone())


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, on the CPU too, where torch's own
    `SyncBatchNorm` does not run.
    """

    def forward(self, values: Tensor) -> Tensor:
        """The normalised values; see `nn.BatchNorm2d`."""
        if not self.training:
            return super().forward(values)
        whole = values.float()  # the sums of 16-bit numbers would overflow
        count = whole.new_full((1,), whole.numel() / whole.shape[1])
        own = torch.cat([whole.sum((0, 2, 3)), (whole * whole).sum((0, 2, 3)), count])
        sums: Tensor = Summed.apply(own)
        mean, square = (sums[:-1] / sums[-1]).chunk(2)
        variance = (square - mean * mean).clamp_min(0)
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            share = self.momentum or 0.0
            unbiased = variance * sums[-1] / (sums[-1] - 1).clamp_min(1)
            self.running_mean.lerp_(mean.detach(), share)
            self.running_var.lerp_(unbiased.detach(), share)
        scale = (variance + self.eps).rsqrt()
        normal = (whole - mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1)
        normal = normal * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return normal.to(values.dtype)


def share_batch_norms(module: nn.Module) -> None:
    """Has every batch norm in `module` see the batches of all processes, if there are several."""
    if size() > 1:
        _exchange(module, nn.BatchNorm2d, SharedBatchNorm)


def unshare_batch_norms(module: nn.Module) -> None:
    """Turns them into plain ones again, which a checkpoint holds."""
    _exchange(module, SharedBatchNorm, nn.BatchNorm2d)


def _exchange(module: nn.Module, old: type[nn.Module], new: type[nn.Module]) -> None:
    for layer in module.modules():
        if type(layer) is old:
            layer.__class__ = new  # the state is the same, so that none needs to be copied
