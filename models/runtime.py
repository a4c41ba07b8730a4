"""Where networks run: the device and the number of threads."""

from __future__ import annotations

import os
from typing import Literal

import torch

DeviceChoice = Literal["auto", "cpu", "cuda"]


class NoDeviceError(ValueError):
    """The device that was asked for is not there."""


def choose_device(choice: DeviceChoice) -> torch.device:
    """The device for `choice`; `auto` takes a GPU where there is one. Raises `NoDeviceError` for CUDA without a GPU."""
    if choice == "cuda" and not torch.cuda.is_available():
        raise NoDeviceError("PyTorch finds no CUDA device")
    if choice == "auto":
        choice = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(choice)


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 itself, so that it is worth using."""
    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return bool(torch.cuda.is_bf16_supported())


def use_threads(count: int | None = None) -> int:
    """Let PyTorch compute with `count` threads: as many as this process may use cores when None. Returns the number."""
    threads = count if count is not None else len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    return threads
