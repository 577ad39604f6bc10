"""Tasks: how pictures become a network's input, in training and serving; one module per task.

Every module of this package with a `TASK` is registered: a new task changes no other module.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from tasks.base import InputSpec, Subject, Task

__all__ = [
    "InputSpec",
    "Subject",
    "Task",
    "UnknownTaskError",
    "get",
    "names",
    "register",
    "unregister",
]

_TASKS: dict[str, Task] = {}


class UnknownTaskError(ValueError):
    """A task that is not registered; the message names those that are."""


def register(task: Task) -> Task:
    """Makes `task` known under its name, in place of one that had it before."""
    _TASKS[task.name] = task
    return task


def unregister(name: str) -> None:
    """Forgets the task `name`."""
    del _TASKS[name]


def names() -> list[str]:
    """The names of all tasks."""
    return list(_TASKS)


def get(name: str) -> Task:
    """The task `name`; raises `UnknownTaskError`."""
    if name not in _TASKS:
        raise UnknownTaskError(f"the task is {name!r}; known are {', '.join(_TASKS)}")
    return _TASKS[name]


for _found in iter_modules(__path__):
    _task = getattr(import_module(f"{__name__}.{_found.name}"), "TASK", None)
    if _task is not None:
        register(_task)
