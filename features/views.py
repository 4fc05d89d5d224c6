"""Views: an image goes through the network more than once, as it is and a little changed, to be learnt from each time.

What a view changes depends on its number, in training on the image's row too, and on nothing else: any machine, shard
or resumed run makes the same. `extract.views` makes them.
"""

from collections.abc import Collection
from dataclasses import dataclass

from features.errors import UserError, unknown

AUGMENTATIONS = ("shift", "rotate", "scale", "flip", "crop", "color")
USUAL = ("shift", "rotate", "scale")  # which leave a 6 a 6 and text readable
MOST = 1000


@dataclass(frozen=True)
class Views:
    """So many views of an image, the first the image itself, changed in these ways, in the order of `AUGMENTATIONS`.

    'shift' moves it by up to 7.5 % of the side, 'rotate' turns it by up to 12 degrees and 'scale' makes it up to 10 %
    larger or smaller, the border being repeated; 'flip' mirrors it in every other view; 'crop' takes 70 to 100 % of the
    side, from anywhere; 'color' changes brightness, contrast and saturation by up to 20 %.
    """

    count: int = 1
    augment: tuple[str, ...] = ()

    @classmethod
    def asked(cls, count: int, augment: tuple[str, ...], tested: int) -> "Views":
        """The views that `--views`, `--view-augment` and `--test-views` ask for; UserError for what cannot be."""
        for option, number in (("--views", count), ("--test-views", tested)):
            if not 1 <= number <= MOST:
                raise UserError(f"{option} {number}: give a whole number from 1 to {MOST:,}")
        for name in augment:
            if name not in AUGMENTATIONS:
                raise unknown(f"--view-augment {name}: there is no such change", name, AUGMENTATIONS)
        if count == 1 and augment:
            raise UserError("--view-augment says how views differ, and there is one; add --views 4, or leave it out")
        views = cls.changed(count, augment)
        if count > 1:
            views.require(tested)
        return views

    @classmethod
    def changed(cls, count: int, augment: Collection[str]) -> "Views":
        """So many views, changed in these ways, or in the usual ones where there are none."""
        return cls(count, tuple(name for name in AUGMENTATIONS if name in (augment or USUAL)) if count > 1 else ())

    def require(self, tested: int) -> None:
        """UserError where a head that learns from these views cannot decide over so many of them."""
        if tested > self.count:
            raise UserError(f"--test-views {tested}: more than --views {self.count}, from which they are taken")

    @classmethod
    def parse(cls, text: str) -> "Views":
        """The views that `str` wrote; ValueError for what it did not."""
        if not text:
            return cls()
        count, *augment = text.split(" ")
        views = cls(int(count), tuple(augment))
        if str(views) != text or set(augment) - set(AUGMENTATIONS) or not 1 < views.count <= MOST:
            raise ValueError(f"no views are written {text!r}")
        return views

    def __str__(self) -> str:
        """'8 shift rotate', as cache keys and records have it; '' for the image alone."""
        return " ".join((str(self.count), *self.augment)) if self.count > 1 else ""
