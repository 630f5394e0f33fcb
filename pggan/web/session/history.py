"""Undo and redo: the steps that a tab has taken, newest last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pggan.web.session.screen import Screen

MOST_STEPS = 200


def nothing() -> None:
    """Does nothing."""


@dataclass(frozen=True)
class Step:
    """A change of the screen, and of what lies outside it, such as a favourite."""

    before: Screen
    after: Screen
    revert: Callable[[], None] = nothing
    repeat: Callable[[], None] = nothing


class History:
    """A tab's present screen, the steps that led to it, and those that were undone."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self._done: list[Step] = []
        self._undone: list[Step] = []

    @property
    def depth(self) -> tuple[int, int]:
        """How many steps can be undone and redone."""
        return len(self._done), len(self._undone)

    def take(self, step: Step) -> None:
        """Records a step that has been taken; what was undone is then gone. A step to the same is none."""
        if step.before == step.after and step.revert is nothing:
            return
        self.screen = step.after
        self._done = [*self._done[-MOST_STEPS + 1 :], step]
        self._undone = []

    def change(self, screen: Screen) -> None:
        """Takes the step to another screen."""
        self.take(Step(self.screen, screen))

    def undo(self) -> bool:
        """Goes a step back; returns whether there was one."""
        if not self._done:
            return False
        step = self._done[-1]
        step.revert()  # may fail, as on a full disk: the step then stays
        self._done.pop()
        self._undone.append(step)
        self.screen = step.before
        return True

    def redo(self) -> bool:
        """Goes an undone step forward again; returns whether there was one."""
        if not self._undone:
            return False
        step = self._undone[-1]
        step.repeat()
        self._undone.pop()
        self._done.append(step)
        self.screen = step.after
        return True
