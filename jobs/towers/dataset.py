"""From plays to training windows, in arrays: nothing here reads a play before it was known.

Every play that counts as a label is predicted once, from the newest position of its profile's history whose whole
prefix was known before the play. Histories stay in one flat array (mean length is 5); a batch pads its own windows.

Shape suffixes: E plays (events), V profile versions, N labels, W windows, P/C/F widths of contracts/query and content.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from contracts.query import CONTEXT_WIDTH, DEVICES, MIN_GAP_SECONDS, Context, context_features, event_features

MICROSECONDS = 1_000_000
UNKNOWN_DEVICE = len(DEVICES)


@dataclass(frozen=True)
class Plays:
    """Plays sorted by (profile, time, event id). Times are epoch microseconds."""

    profile: np.ndarray  # (E,) int64 code, ascending
    title: np.ndarray  # (E,) int64 row of the catalogue
    time: np.ndarray  # (E,) int64
    known: np.ndarray  # (E,) int64
    completion: np.ndarray  # (E,) float64, NaN unknown
    rating: np.ndarray  # (E,) float64, NaN unknown
    engaged: np.ndarray  # (E,) bool
    device: np.ndarray  # (E,) int64 index into DEVICES, UNKNOWN_DEVICE

    def __len__(self) -> int:
        return len(self.profile)

    def features(self) -> np.ndarray:
        """(E,event width): the gap of a play runs to the profile's following play, which is when a label after it
        was asked for."""
        following = np.append(self.time[1:], self.time[-1:])
        last = np.append(self.profile[1:] != self.profile[:-1], np.ones(min(len(self), 1), bool))
        following = np.where(last, self.time, following)
        return event_features(self.time / MICROSECONDS, following / MICROSECONDS, self.completion, self.rating)


@dataclass(frozen=True)
class ProfileVersions:
    """What was known of profiles when; sorted by (profile, known). The last feature row is that of nobody known."""

    profile: np.ndarray  # (V,) int64 code
    known: np.ndarray  # (V,) int64 microseconds
    features: np.ndarray  # (V+1,P) float32


@dataclass(frozen=True)
class Windows:
    """W spans of one profile's plays with the labels that they predict. Label `n` of a window is asked for after
    `position[n]` of the window's plays (0: from profile and context alone)."""

    start: np.ndarray  # (W,) first play
    length: np.ndarray  # (W,) plays
    profile_row: np.ndarray  # (W,) row of ProfileVersions.features
    label_start: np.ndarray  # (W+1,) labels of window w: label_start[w]:label_start[w + 1]
    position: np.ndarray  # (N,)
    target: np.ndarray  # (N,) row of the catalogue
    context_row: np.ndarray  # (N,) row of context_table()

    def __len__(self) -> int:
        return len(self.start)

    @property
    def labels(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Batch:
    """Padded arrays of B windows, L plays and N labels; -1 pads titles."""

    title_BL: np.ndarray
    event_BL: np.ndarray  # row of the plays' features
    length_B: np.ndarray
    profile_row_B: np.ndarray
    label_row_N: np.ndarray  # window within the batch
    position_N: np.ndarray
    target_N: np.ndarray
    context_row_N: np.ndarray


def known_prefix(plays: Plays) -> np.ndarray:
    """(E,) global index of the first play of the same profile that was *not* known before each play: everything from
    the profile's first play up to it, exclusive, was. Never beyond the play itself."""
    if not len(plays):
        return np.zeros(0, np.int64)
    values, ranks = np.unique(np.concatenate([plays.time, np.maximum(plays.known, plays.time)]), return_inverse=True)
    time_rank, known_rank = ranks[: len(plays)], ranks[len(plays) :]
    running = np.maximum.accumulate(plays.profile * len(values) + known_rank)  # profiles ascend, so runs do not mix
    return np.searchsorted(running, plays.profile * len(values) + time_rank, side="left")


def version_rows(plays: Plays, versions: ProfileVersions) -> np.ndarray:
    """(E,) the newest profile version known before each play; V where there was none."""
    none = len(versions.profile)
    if not none or not len(plays):
        return np.full(len(plays), none)
    values, ranks = np.unique(np.concatenate([plays.time, versions.known]), return_inverse=True)
    time_rank, known_rank = ranks[: len(plays)], ranks[len(plays) :]
    keys = versions.profile * len(values) + known_rank
    row = np.searchsorted(keys, plays.profile * len(values) + time_rank, side="left") - 1
    return np.where((row >= 0) & (versions.profile[row] == plays.profile), row, none)


def build_windows(
    plays: Plays, versions: ProfileVersions, is_label: np.ndarray, history_length: int, per_profile: int = 0
) -> Windows:
    """Windows of at most `history_length` plays whose labels are the plays where `is_label` (E,) holds.

    The first window of a profile starts at its first play; later ones overlap by half, so that every label sees at
    least half a window. A label whose history was cut short by late knowledge counts only where the gap that its
    position's features state is right within MIN_GAP_SECONDS. A window has one profile version: the one known
    before its labels.
    """
    until = known_prefix(plays)
    first = np.searchsorted(plays.profile, plays.profile, side="left")
    gap_is_right = plays.time - plays.time[until] < MIN_GAP_SECONDS * MICROSECONDS
    label = np.flatnonzero(is_label & gap_is_right)
    seen = (until - first)[label]
    step = max(history_length // 2, 1)
    chunk = np.maximum(-((history_length - seen) // step), 0)  # ceil((seen - length) / step), not below 0
    if per_profile:
        last = np.zeros(int(plays.profile.max(initial=-1)) + 1, np.int64)
        np.maximum.at(last, plays.profile[label], chunk)
        keep = chunk > last[plays.profile[label]] - per_profile
        label, seen, chunk = label[keep], seen[keep], chunk[keep]
    row = version_rows(plays, versions)[label]
    keys = np.stack([plays.profile[label], row, chunk])
    new = np.flatnonzero(np.any(np.diff(keys, axis=1, prepend=-1) != 0, axis=0))
    start = first[label] + chunk * step
    position = seen - chunk * step
    label_start = np.append(new, len(label))
    longest = position[label_start[1:] - 1] if len(new) else np.zeros(0, np.int64)  # positions ascend in a window
    return Windows(start[new], longest, row[new], label_start, position, plays.title[label],
                   context_rows(plays.time[label], plays.device[label]))


def context_rows(time: np.ndarray, device: np.ndarray) -> np.ndarray:
    """Rows of `context_table()` for moments (microseconds) and device indexes."""
    hours = time // (3600 * MICROSECONDS)
    weekday = (hours // 24 + 3) % 7  # 1970-01-01 was a Thursday
    return (device * 7 + weekday) * 24 + hours % 24


def context_table() -> np.ndarray:
    """(R,C): the context features of every device, weekday and hour, computed by the contract's own function."""
    table = np.zeros((UNKNOWN_DEVICE + 1, 7, 24, CONTEXT_WIDTH), np.float32)
    for device, name in enumerate((*DEVICES, "")):
        for weekday in range(7):
            for hour in range(24):
                moment = datetime(2024, 1, 1 + weekday, hour, tzinfo=UTC)  # a Monday
                table[device, weekday, hour] = context_features(Context(moment, name))
    return table.reshape(-1, CONTEXT_WIDTH)


def plan_batches(windows: Windows, tokens: int, order: np.random.Generator | None = None) -> list[np.ndarray]:
    """Windows of like length together, at most `tokens` padded positions a batch (at least one window).

    With `order` batches are shuffled, and so are windows of like length; without, shortest first.
    """
    jitter = order.random(len(windows)) if order is not None else np.zeros(len(windows))
    ranked = np.lexsort((np.arange(len(windows)), windows.length + 0.1 * (windows.length + 1) * jitter))
    cuts, begin, widest = [0], 0, 0
    for i, width in enumerate((windows.length[ranked] + 1).tolist()):  # one more for the start position
        widest = max(widest, width)
        if i > begin and widest * (i - begin + 1) > tokens:
            cuts.append(i)
            begin, widest = i, width
    spans = [ranked[a:b] for a, b in zip(cuts, [*cuts[1:], len(ranked)]) if b > a]
    if order is not None:
        order.shuffle(spans)
    return spans


def make_batch(plays: Plays, windows: Windows, chosen: np.ndarray) -> Batch:
    """The chosen windows, padded on the right to the longest."""
    length_B = windows.length[chosen]
    offset_L = np.arange(int(length_B.max()))
    valid_BL = offset_L < length_B[:, None]
    event_BL = np.where(valid_BL, windows.start[chosen][:, None] + offset_L, 0)
    title_BL = np.where(valid_BL, plays.title[event_BL], -1)
    counts = windows.label_start[chosen + 1] - windows.label_start[chosen]
    label_row_N = np.repeat(np.arange(len(chosen)), counts)
    within = np.arange(len(label_row_N)) - np.repeat(np.cumsum(counts) - counts, counts)
    label = np.repeat(windows.label_start[chosen], counts) + within
    return Batch(title_BL, event_BL, length_B, windows.profile_row[chosen], label_row_N, windows.position[label],
                 windows.target[label], windows.context_row[label])
