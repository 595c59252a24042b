"""Aligns the letters of a transcription with those of a reference, by runs of equal letters.

Runs in the page's order come first, then blocks that moved (columns read across, a footnote at the
end). What lies between two runs is for `misreadings`.
"""

from __future__ import annotations

import numpy as np
from rapidfuzz.distance import Indel

from olmrl.rewards.lettered import Bools, Ints, Lettered, all_of, runs

_SEED = 8
"""Equal letters in a row that show a common passage; half the text, if that is less."""
_REMNANT = 5
"""Letters of a run that is all that is left in one place of both texts."""
_PLACES = 4
"""Places in the truth that are tried for a block that moved."""


class Alignment:
    """Which letter of the truth each letter of a text claims."""

    def __init__(self, said: Lettered, truth: Lettered) -> None:
        self.said, self.truth = said, truth
        self.c, self.r = said.key, truth.key
        """The letters of both."""
        self.source: Ints = np.full(len(self.c), -1, np.int64)
        """[letters said] letter of the truth that each claims; -1: foreign, -2: a misreading."""
        self.covered: Bools = np.zeros(len(self.r), np.bool_)
        """[letters of the truth] claimed, or misread."""
        self._seed = min(_SEED, max(2, min(len(self.c), len(self.r)) // 2))

    def claim_equal(self) -> None:
        """Claim runs of equal letters: those in order first, then blocks that moved."""
        if min(len(self.c), len(self.r)) < self._seed:
            return
        for start, origin, size in Indel.opcodes(self.c, self.r).as_matching_blocks():
            if size >= self._seed:
                self.claim(start, origin, size)
        self._seed_moved()
        self._exchange()
        self._slide()
        self._seed_remnants()

    def _seed_moved(self) -> None:
        size = self._seed
        places: dict[str, list[int]] = {}
        for origin, stop in runs(~self.covered):
            for at in range(origin, stop - size + 1):
                places.setdefault(self.r[at : at + size], []).append(at)
        if not places:
            return
        for start, end in runs(self.source == -1):
            at = start
            while at + size <= end:
                found = places.get(self.c[at : at + size], ())
                free = [p for p in found[:_PLACES] if not self.covered[p : p + size].any()]
                if free:
                    self.claim(at, max(free, key=lambda p: self._agreement(at, p)), size)
                    at += size
                    while at < end and self.source[at] != -1:
                        at += 1
                else:
                    at += 1

    def _exchange(self) -> None:
        """Exchange equal letters of two blocks that both go on with those of the other one.

        Where a block moved that has some words in common with one that did not.
        """
        source = self.source
        cuts = np.flatnonzero(source[1:] != source[:-1] + 1) + 1
        before, after = source[cuts - 1], source[cuts]
        places = zip(cuts.tolist(), before.tolist(), after.tolist(), strict=True)
        alike = [
            at
            for at, ended, place in places
            if min(ended, place) >= 0 and self.r[ended + 1 : ended + 2] == self.c[at]
        ]
        owner = self._owners() if alike else source
        for at in alike:
            origin, place = int(source[at - 1]) + 1, int(source[at])
            size = self._shared(at, origin, owner)
            other = int(owner[origin]) if size else -1
            if not size or not self._continues(other, place, size):
                continue
            for start, there in ((at, place), (other, origin)):
                source[start : start + size] = -1
                self.covered[there : there + size] = False
            self.claim(at, origin, size)
            self.claim(other, place, size)
            owner = self._owners()

    def _shared(self, at: int, origin: int, owner: Ints) -> int:
        """Number of equal letters from a claimed one on and from a place that others claim."""
        if origin >= len(owner) or owner[origin] < 0:
            return 0
        place, other, size = int(self.source[at]), int(owner[origin]), 0
        most = min(len(self.source) - at, len(owner) - origin, abs(at - other))
        while (
            size < most
            and self.c[at + size] == self.r[origin + size]
            and self.source[at + size] == place + size
            and owner[origin + size] == other + size
        ):
            size += 1
        return size

    def _continues(self, start: int, place: int, size: int) -> bool:
        """Whether what is beside some letters is claimed beside a place in the truth."""
        end = start + size
        before = start and self.source[start - 1] == place - 1
        return bool(before or (end < len(self.source) and self.source[end] == place + size))

    def _slide(self) -> None:
        """Give letters back to the block that they belong to, if their claimants have another.

        Where blocks changed places, equal letters at their edges may be claimed by the wrong one.
        """
        owner = self._owners()
        for start, end in runs(self.source == -1):
            for step in (1, -1):
                if self._take_back(start, end, step, owner):
                    owner = self._owners()

    def _owners(self) -> Ints:
        """[letters of the truth] the letter that claims each; -1 if none."""
        owner = np.full(len(self.r), -1, np.int64)
        here = np.flatnonzero(self.source >= 0)
        owner[self.source[here]] = here
        return owner

    def _take_back(self, start: int, end: int, step: int, owner: Ints) -> bool:
        """Continue the block before (step 1) or after (-1) a foreign run with claimed letters."""
        beside = start - 1 if step > 0 else end
        if not 0 <= beside < len(self.source) or self.source[beside] < 0:
            return False
        at, origin = beside + step, int(self.source[beside]) + step
        theirs: list[int] = []
        while start <= at < end and 0 <= origin < len(self.r) and self.source[at] == -1:
            other = int(owner[origin])
            follows = not theirs or other == theirs[-1] + step
            if self.c[at] != self.r[origin] or other < 0 or not follows:
                break
            theirs.append(other)
            at, origin = at + step, origin + step
        size, other = len(theirs), min(theirs, default=0)
        home = self._other_home(other, size) if size else -1
        if home < 0:
            return False
        mine, place = (at - size, origin - size) if step > 0 else (at + 1, origin + 1)
        self.source[other : other + size] = -1
        self.covered[place : place + size] = False
        self.claim(mine, place, size)
        self.claim(other, home, size)
        return True

    def _other_home(self, start: int, size: int) -> int:
        """Free place in the truth that continues what is claimed beside some letters; or -1."""
        end = start + size
        places = []
        if start and self.source[start - 1] >= 0:
            places.append(int(self.source[start - 1]) + 1)
        if end < len(self.source) and self.source[end] >= 0:
            places.append(int(self.source[end]) - size)
        for place in places:
            free = place >= 0 and not self.covered[place : place + size].any()
            if free and self.c[start:end] == self.r[place : place + size]:
                return place
        return -1

    def _seed_remnants(self) -> None:
        """Claim short runs that are all that is left in one place of both texts."""
        left = {self.r[slice(*run)]: run for run in runs(~self.covered)}
        for start, end in runs(self.source == -1):
            run = left.get(self.c[start:end])
            if run and end - start >= _REMNANT and not self.covered[run[0]]:
                self.claim(start, run[0], end - start)

    def _agreement(self, at: int, origin: int) -> int:
        """Number of equal letters from two places on."""
        mine, theirs = self.c[at : at + 400], self.r[origin : origin + 400]
        return next(
            (n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), len(mine)
        )

    def claim(self, start: int, origin: int, size: int) -> None:
        """Claim what is free of a run, and the equal letters around it that are free."""
        source, covered = self.source, self.covered
        free = (source[start : start + size] == -1) & ~covered[origin : origin + size]
        if not all_of(free):
            first = int(free.argmax())
            start, origin, size = start + first, origin + first, int(free.sum())
        if not size:
            return
        end, stop = start + size, origin + size
        while start and origin and self._agree(start - 1, origin - 1):
            start, origin = start - 1, origin - 1
        while end < len(source) and stop < len(covered) and self._agree(end, stop):
            end, stop = end + 1, stop + 1
        source[start:end] = np.arange(origin, stop)
        covered[origin:stop] = True

    def _agree(self, at: int, origin: int) -> bool:
        free = self.source[at] == -1 and not self.covered[origin]
        return bool(free) and self.c[at] == self.r[origin]

    def place_before(self, start: int) -> int:
        """Place in the truth after that of the letter before a run; -1 if unknown."""
        at = start
        while at and self.source[at - 1] == -2:
            at -= 1
        place = int(self.source[at - 1]) + 1 if at else 0
        if not place and at:
            return -1
        while place < len(self.covered) and self.covered[place] and at < start:
            place += 1
        return place

    def place_after(self, end: int) -> int:
        """Place in the truth of the letter after a run; -1 if unknown."""
        at = end
        while at < len(self.source) and self.source[at] == -2:
            at += 1
        place = int(self.source[at]) if at < len(self.source) else len(self.covered)
        while place > 0 and self.covered[place - 1] and at > end:
            place -= 1
        return place
