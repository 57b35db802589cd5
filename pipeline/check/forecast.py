"""From a rate to the time and the cost of a whole run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Forecast:
    """What a run of all images takes once it labels; the seconds it needs to start are left out.

    Attributes:
        here: seconds on this machine.
        workers: machines like this one.
        together: seconds on so many of them.
        price: of one of them an hour, in any currency; None if not given.
    """

    here: float
    workers: int = 1
    price: float | None = None

    @property
    def together(self) -> float:
        return self.here / self.workers

    @property
    def cost(self) -> float | None:
        """Of the machines' hours, as many as one of them alone would need."""
        return None if self.price is None else self.price * self.here / 3600


def forecast(images: int, rate: float | None, workers: int = 1, price: float | None = None) -> Forecast | None:
    """None without a rate.

    Args:
        images: of the whole input.
        rate: images a second on this machine.
    """
    return Forecast(images / rate, workers, price) if rate else None
