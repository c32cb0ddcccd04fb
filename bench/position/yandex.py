"""Does the curve predict clicks? Real result lists of ten with clicks (PyClick's sample of the Yandex relevance challenge).

P(click) = attention of the place * appeal of the document for the query. Attention is learnt on the training sessions by
EM; appeal is the posterior mean with a Beta prior, whose strength is picked on the last fifth of the training sessions.
Shape suffixes: N impressions, S places, C query-document pairs.
"""

from pathlib import Path

import numpy as np

from contracts.errors import UsageError
from jobs.attention import estimate

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)


def sessions(path: Path) -> dict[str, np.ndarray]:
    """Columns pair, position, click, session of a file of `query TAB documents : clicks;`."""
    try:
        entries = [entry.strip() for entry in path.read_text().split(";") if entry.strip()]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    pair, position, click, session = [], [], [], []
    for number, entry in enumerate(entries):
        query, _, rest = entry.partition("\t")
        shown, separator, clicked = rest.partition(":")
        if not separator:
            raise UsageError(f"{path}: entry {number} has no `:`: {entry[:60]!r}")
        documents, found = [d.strip() for d in shown.split(",")], {c.strip() for c in clicked.split(",")}
        pair += [f"{query} {document}" for document in documents]
        position += range(1, len(documents) + 1)
        click += [document in found for document in documents]
        session += [number] * len(documents)
    return {"pair": np.array(pair), "position": np.array(position), "click": np.array(click), "session": np.array(session)}


def curves(log: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(S,) attention by way of learning it."""
    found = estimate(log["position"], log["click"], None, log["pair"])
    rate_S = np.bincount(log["position"], log["click"])[1:] / np.bincount(log["position"])[1:]
    return {"no places": np.ones(len(rate_S)), "click rate by place": rate_S / rate_S[0],
            "EM": np.pad(found.curve, (0, len(rate_S) - len(found.curve)), mode="edge")}


def likelihood(train: dict, test: dict, curve_S: np.ndarray, strength: float) -> np.ndarray:
    """(N,) log likelihood of the test impressions."""
    pairs, code_N = np.unique(np.concatenate([train["pair"], test["pair"]]), return_inverse=True)
    code_N, other_N = code_N[: len(train["pair"])], code_N[len(train["pair"]):]
    looked_N = curve_S[train["position"] - 1]
    prior = train["click"].sum() / looked_N.sum()
    clicks_C, looks_C = (np.bincount(code_N, values, len(pairs)) for values in (train["click"], looked_N))
    appeal_C = np.minimum((clicks_C + strength * prior) / (looks_C + strength), 1.0)
    p_N = np.clip(curve_S[test["position"] - 1] * appeal_C[other_N], 1e-4, 1 - 1e-4)
    return np.where(test["click"], np.log(p_N), np.log1p(-p_N))


def measure(folder: Path) -> list[dict]:
    """A row a way: mean log likelihood of test impressions, its difference to no places with a standard error over sessions,
    perplexity (2 to the mean negative log2 likelihood), and the curve."""
    train, test = sessions(folder / "trainSample"), sessions(folder / "testSample")
    late_N = train["session"] >= 0.8 * train["session"].max()
    early, late = ({name: values[mask] for name, values in train.items()} for mask in (~late_N, late_N))
    strengths = {way: max(STRENGTHS, key=lambda s, c=curve_S: likelihood(early, late, c, s).mean())
                 for way, curve_S in curves(early).items()}
    rows, base_N = [], None
    for way, curve_S in curves(train).items():
        found_N = likelihood(train, test, curve_S, strengths[way])
        base_N = found_N if base_N is None else base_N
        gain_V = np.bincount(test["session"], found_N - base_N) / np.bincount(test["session"])
        rows.append({"way": way, "strength": strengths[way], "log_likelihood": float(found_N.mean()),
                     "gain": float(gain_V.mean()), "gain_error": float(gain_V.std(ddof=1) / np.sqrt(len(gain_V))),
                     "perplexity": float(np.exp(-found_N.mean())), "curve": np.round(curve_S, 3).tolist()})
    return rows
