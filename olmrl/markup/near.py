"""Where a text nearly contains a needle, with a bound on the work (order tests).

The rules are those of the fuzzysearch package, which the public bench uses. The search itself is
about 40 times faster: it starts from exact slices of the needle and extends them with rapidfuzz. It
gives up with `WorkLimitError` on text that would stall it.
"""

from rapidfuzz.distance import Levenshtein

from olmrl.markup.text import WorkLimitError

MAX_SEEDS = 50_000
"""Maximum candidate places in one text that `near_range` examines."""

MAX_STEPS = 2_000_000
"""Maximum states that `near_range` visits for a needle with too many edits to be seeded."""


def near_range(needle: str, text: str, max_diffs: int) -> tuple[int, int] | None:
    """First and last start of the places in a text that nearly equal a needle.

    Near means a Levenshtein distance of at most `max_diffs`. Of overlapping places only the best
    (smallest distance, then longest) counts, as in the fuzzysearch package.

    Args:
        needle: Not empty.
        text: Where to search.
        max_diffs: Allowed edits, >= 0.

    Returns:
        (smallest start, largest start) as character offsets, or None if nothing is near.

    Raises:
        WorkLimitError: The text has too many half-matching places.
    """
    if max_diffs == 0:
        first = text.find(needle)
        return None if first < 0 else (first, text.rfind(needle))
    # pigeonhole: of max_diffs + 1 equal slices of the needle, at least one occurs unchanged
    slice_len = len(needle) // (max_diffs + 1)
    if slice_len < 3:
        matches = _short_matches(needle, text, max_diffs)
    else:
        matches = _long_matches(needle, text, max_diffs, slice_len)
    return _best_starts(matches) if matches else None


_Match = tuple[int, int, int]
"""Start offset, end offset, distance."""

_State = tuple[int, int]
"""Characters of the needle consumed, edits spent."""

_Known = dict[tuple[int, int, str, bool], tuple[list[_State], list[int]]]
"""What `_advance` gave, by state, character and whether it is the text's last."""


def _long_matches(needle: str, text: str, max_diffs: int, slice_len: int) -> set[_Match]:
    """All matches that contain a slice of the needle unchanged, found by growing each slice."""
    matches: set[_Match] = set()
    seeds = 0
    for offset in range(0, len(needle) - slice_len + 1, slice_len):
        end = min(len(text), len(text) - len(needle) + offset + slice_len + max_diffs)
        piece = needle[offset : offset + slice_len]
        at = text.find(piece, max(0, offset - max_diffs), end)
        while at >= 0:
            seeds += 1
            if seeds > MAX_SEEDS:
                raise WorkLimitError(f"more than {MAX_SEEDS} places look like {needle[:40]!r}")
            match = _grow(needle, text, max_diffs, offset, offset + slice_len, at)
            if match is not None:
                matches.add(match)
            at = text.find(piece, at + 1, end)
    return matches


def _short_matches(needle: str, text: str, max_diffs: int) -> set[_Match]:
    """All matches of a needle with many allowed edits per character, by the fuzzysearch rules.

    Those rules (edits are only tried where the next character does not match) form a state
    machine over (characters of the needle consumed, edits spent), run from every start at once.
    """
    if max_diffs >= len(needle):
        return {(at, at, len(needle)) for at in range(len(text) + 1)}
    # first occurrence of each character that can begin a match, after skipping those before it
    first_index = {needle[i]: i for i in reversed(range(max_diffs + 1))}
    known: _Known = {}
    matches: set[_Match] = set()
    alive: list[tuple[int, set[_State]]] = []
    steps = 0
    for at, char in enumerate(text):
        is_last = at + 1 == len(text)
        survivors: list[tuple[int, set[_State]]] = []
        for start, states in alive:
            steps += len(states)
            following, distances = _advance_all(needle, max_diffs, states, char, is_last, known)
            matches.update((start, at + 1, distance) for distance in distances)
            if following:
                survivors.append((start, following))
        if char in first_index:
            skipped = first_index[char]
            if skipped + 1 == len(needle):
                matches.add((at, at + 1, skipped))
            else:
                survivors.append((at, {(skipped + 1, skipped)}))
        alive = survivors
        if steps + len(matches) > MAX_STEPS:
            raise WorkLimitError(
                f"too many places look like {needle[:40]!r} with {max_diffs} edits"
            )
    for start, states in alive:  # end of the text: the rest of the needle counts as skipped
        totals = (spent + len(needle) - consumed for consumed, spent in states)
        matches.update((start, len(text), total) for total in totals if total <= max_diffs)
    return matches


def _advance_all(
    needle: str, max_diffs: int, states: set[_State], char: str, is_last: bool, known: _Known
) -> tuple[set[_State], list[int]]:
    """`_advance` from every state, each worked out once."""
    following: set[_State] = set()
    ended: list[int] = []
    for state in states:
        key = (*state, char, is_last)
        if key not in known:
            known[key] = _advance(needle, max_diffs, *key)
        successors, distances = known[key]
        following.update(successors)
        ended += distances
    return following, ended


def _advance(
    needle: str, max_diffs: int, consumed: int, spent: int, char: str, is_last: bool
) -> tuple[list[_State], list[int]]:
    """Advances by one character: the next states, and the distances of matches that end here."""
    length = len(needle)
    if needle[consumed] == char:
        return ([], [spent]) if consumed + 1 == length else ([(consumed + 1, spent)], [])
    if spent == max_diffs:
        return [], []
    states = [(consumed, spent + 1)]
    if not is_last and consumed + 1 < length:
        states.append((consumed + 1, spent + 1))
    for skipped in range(1, max_diffs - spent + 1):
        reached = consumed + skipped
        if reached == length or (needle[reached] == char and reached + 1 == length):
            return states, [spent + skipped]
        if needle[reached] == char:
            return [*states, (reached + 1, spent + skipped)], []
    return states, []


def _grow(needle: str, text: str, max_diffs: int, begin: int, end: int, at: int) -> _Match | None:
    """Extends needle[begin:end], found unchanged at `at`, on both sides to the whole needle."""
    stop = at + end - begin
    right = _best_prefix(needle[end:], text[stop : at - begin + len(needle) + max_diffs], max_diffs)
    if right is None:
        return None
    left_diffs = max_diffs - right[0]
    before = text[max(0, at - begin - left_diffs) : at][::-1]
    left = _best_prefix(needle[:begin][::-1], before, left_diffs)
    if left is None:
        return None
    return at - left[1], stop + right[1], left[0] + right[0]


def _best_prefix(part: str, text: str, max_diffs: int) -> tuple[int, int] | None:
    """(distance, length) of the prefix of a text nearest to a part; the longest if tied."""
    if not part:
        return 0, 0
    if text.startswith(part):
        return 0, len(part)
    best = None
    allowed = max_diffs
    for length in range(min(len(text), len(part) + max_diffs), len(part) - max_diffs - 1, -1):
        if allowed <= 0 or length < 0:
            break
        distance = Levenshtein.distance(part, text[:length], score_cutoff=allowed)
        if distance <= allowed:
            best = distance, length
            allowed = distance - 1
    return best


def _best_starts(matches: set[_Match]) -> tuple[int, int]:
    """Smallest and largest start over the best match of each group of overlapping matches."""
    ordered = sorted(matches)
    starts = []
    group = [ordered[0]]
    group_end = ordered[0][1]
    for match in ordered[1:]:
        if match[0] >= group_end:
            starts.append(_best_of(group))
            group, group_end = [match], match[1]
        else:
            group.append(match)
            group_end = max(group_end, match[1])
    starts.append(_best_of(group))
    return min(starts), max(starts)


def _best_of(group: list[_Match]) -> int:
    return min(group, key=lambda match: (match[2], match[0] - match[1]))[0]
