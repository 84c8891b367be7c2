"""Does a judge that abstains keep its risk? 200 random splits of labelled pairs of the small world.

    python benchmarks/risk.py             a few minutes on two cores
    python benchmarks/risk.py --again     splits the judgments in the result again, without a model

The seed model, M_0, judges the held-out and the development pairs in three ways: with one greedy vote in each order, with the
probabilities of that vote, and with 8 sampled votes. In each split one half of the pairs is the calibration. On the other half
the share of wrong answers must be within the risk, in at least 90% of the splits. A split in which the calibration keeps no
risk answers nothing, so it cannot fail; it is counted apart.
"""

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stj import Judge
from stj.errors import ConfigError
from stj.generate import Sampling
from stj.judging.calibration import Calibration, Outcome, Outcomes
from stj.judging.risk import RiskLimit
from stj.use_config import VoteConfig
from stj.verdict import Label

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "risk.json"
SPLITS = 200
RISKS = (0.05, 0.1, 0.15, 0.2, 0.3)
LIMIT = Sampling(max_tokens=128)
VOTES = {
    "one_vote": VoteConfig(decoding=LIMIT),
    "one_vote_distribution": VoteConfig(decoding=LIMIT, aggregate="distribution"),
    "eight_votes": VoteConfig(decoding=LIMIT, votes=8),
}
SEED_MODEL = "package://mini/seed_model"


def labelled_pairs() -> list[tuple[str, str, str, Label]]:
    """Instruction, response A, response B and the label; a coin says which response is the better one."""
    coin, pairs = random.Random("order"), []
    for name in ("heldout", "dev"):
        for line in (ROOT / "stj" / "mini" / "data" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            better: Label = coin.choice(("A", "B"))
            first, second = ("chosen", "rejected") if better == "A" else ("rejected", "chosen")
            pairs.append((row["instruction"], row[first], row[second], better))
    return pairs


def judged(vote: VoteConfig) -> list[Outcome]:
    """The outcomes of the seed model on all pairs."""
    pairs = labelled_pairs()
    with Judge(SEED_MODEL, votes=vote.votes, aggregate=vote.aggregate, sampling=vote.decoding) as judge:
        results = judge.compare_many([pair[:3] for pair in pairs])
    return [Outcome(pair[3], result.verdict, result.confidence) for pair, result in zip(pairs, results, strict=True)]


def measure(outcomes: Sequence[Outcome], vote: VoteConfig, risk: float) -> dict[str, Any]:
    """How often, in 200 splits, the other half's error is above the risk."""
    above, silent, answered, errors = 0, 0, [], []
    for split in range(SPLITS):
        shuffled = random.Random(f"split {split}").sample(outcomes, len(outcomes))
        half = len(shuffled) // 2
        calibration = Calibration(model="M_0", judge={"vote": vote.key}, outcomes=Outcomes(shuffled[:half]))
        try:
            threshold = calibration.abstention(RiskLimit(risk=risk)).threshold
        except ConfigError:
            silent += 1
            continue
        answers = [new for new in shuffled[half:] if new.verdict and new.confidence >= threshold]
        error = sum(not new.right for new in answers) / max(1, len(answers))
        above += error > risk
        answered.append(len(answers) / (len(shuffled) - half))
        errors.append(error)
    return {
        "share_of_splits_above_the_risk": above / SPLITS,
        "splits_that_answer_nothing": silent,
        "mean_share_answered": sum(answered) / max(1, len(answered)),
        "mean_error": sum(errors) / max(1, len(errors)),
    }


def main() -> None:
    """Writes the result."""
    before = json.loads(RESULT.read_text()) if "--again" in sys.argv else {}
    record: dict[str, Any] = {"splits": SPLITS, "confidence": RiskLimit(risk=0.1).confidence}
    for key, vote in VOTES.items():
        outcomes = [Outcome(*values) for values in before[key]["outcomes"]] if key in before else judged(vote)
        decided = [outcome for outcome in outcomes if outcome.verdict]
        record[key] = {
            "pairs": len(outcomes),
            "accuracy": sum(outcome.right for outcome in decided) / len(decided),
            "risks": {risk: measure(outcomes, vote, risk) for risk in RISKS},
            "outcomes": outcomes,
        }
        print(json.dumps({**record[key], "outcomes": len(outcomes)}, indent=1), flush=True)
    RESULT.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
