"""What votes that stop save, and what they change: all votes are asked, and each rule is then applied to the same votes.

    python benchmarks/votes.py package://mini/seed_model                  about 3 minutes of two CPU cores
    python benchmarks/votes.py runs/mini/iteration_3/model --pairs 480

Writes benchmarks/results/votes.json, by model, on the mini world's held-out pairs. It has the share of calls that each rule
saves, and the verdicts that differ from those of all votes. `judge` is the verdict over both orders, `eval` the majority of
each order. The same pairs are also judged with each rule for the wall-clock time, and greedily by counting and by
`distribution`.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from stj.config import ModelConfig, installed_engine
from stj.engine.start import start_engine
from stj.generate import Engine, Sampling
from stj.judging.judge import compare_responses
from stj.models.config_json import within_context
from stj.stages.runner import TokenCounter
from stj.stages.stopping import Stopping
from stj.stages.vote import PairVerdict
from stj.use_config import VoteConfig
from stj.verdict import Verdict, majority

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "votes.json"
ROWS_IN_FLIGHT = 16
RULES: dict[str, Stopping] = {
    "exact": Stopping(rule="exact"),
    "unlikely 2%": Stopping(rule="unlikely"),
    "unlikely 5%": Stopping(rule="unlikely", error=0.05),
}
Round = Sequence[Verdict | None]


def replayed(rounds: Sequence[Round], rule: Stopping) -> list[Round]:
    """The rounds that a rule would have asked, of all that were."""
    asked = 0
    votes, orders = len(rounds), len(rounds[0])
    tally: Counter[Verdict] = Counter()
    while more := rule.rounds_needed(tally, votes - asked, votes, orders):
        tally.update(vote for cast in rounds[asked : asked + more] for vote in cast if vote is not None)
        asked += more
    return list(rounds[:asked])


def winner(rounds: Sequence[Round]) -> Verdict | None:
    """The majority of all votes of some rounds."""
    return majority([vote for cast in rounds for vote in cast])


def saving(polls: Sequence[Sequence[Round]], rule: Stopping) -> dict[str, Any]:
    """What a rule saves on these polls, and how many verdicts differ."""
    stopped = [replayed(rounds, rule) for rounds in polls]
    asked, every = sum(map(len, stopped)), sum(map(len, polls))
    differ = sum(winner(few) != winner(rounds) for few, rounds in zip(stopped, polls, strict=True))
    return {"polls": len(polls), "saved": 1 - asked / every, "verdicts_that_differ": differ}


def savings(results: Sequence[PairVerdict], votes: int) -> dict[str, Any]:
    """What each rule saves with the first `votes` votes of each order: over both orders, and for each order alone."""
    both, alone = [], []
    for result in results:
        cast = [vote.verdict for vote in result.votes[: 2 * votes]]
        both.append([tuple(cast[place : place + 2]) for place in range(0, len(cast), 2)])
        alone += [[(vote,) for vote in cast[order::2]] for order in range(2)]
    return {name: {"judge": saving(both, rule), "eval": saving(alone, rule)} for name, rule in RULES.items()}


def accuracy(results: Sequence[PairVerdict]) -> float:
    """Share of right verdicts; the chosen answer is response A."""
    return sum(result.verdict == "A" for result in results) / len(results)


class Asked(NamedTuple):
    """A pair to judge: the instruction, the better response and the worse one."""

    instruction: str
    chosen: str
    rejected: str


async def judged(engine: Engine, pairs: Sequence[Asked], config: VoteConfig) -> tuple[list[PairVerdict], dict[str, Any]]:
    """The results on all pairs at once, and what they cost."""
    slots = asyncio.Semaphore(ROWS_IN_FLIGHT)

    async def compare(pair: Asked) -> PairVerdict:
        async with slots:
            return await compare_responses(*pair, TokenCounter(engine.generate), config)

    begun = time.monotonic()
    results = list(await asyncio.gather(*map(compare, pairs)))
    cost = {"seconds": time.monotonic() - begun, "votes": sum(len(result.votes) for result in results)}
    return results, {**cost, "accuracy": accuracy(results)}


async def measure(word: str, pairs: Sequence[Asked], votes: int) -> dict[str, Any]:
    """Everything about one model, with one start of its engine."""
    every_vote = VoteConfig(votes=votes, stop="all", decoding=Sampling(max_tokens=128))
    model = within_context(ModelConfig(path=word))
    engine = await start_engine(model, installed_engine().serving(model), 0, scope=None)
    configs = {
        "all": every_vote,
        "exact": replace(every_vote, stop="exact"),
        "unlikely 2%": replace(every_vote, stop="unlikely"),
        "greedy, counted": replace(every_vote, votes=1),
        "greedy, distribution": replace(every_vote, votes=1, aggregate="distribution"),
    }
    await judged(engine, pairs[:8], every_vote)  # warms up
    every, measured = [], {}
    for name, config in configs.items():
        results, measured[name] = await judged(engine, pairs, config)
        every = every or results
        print(name, measured[name], flush=True)
    engine.close()
    replays = {f"{count} votes an order": savings(every, count) for count in (8, 16, votes)}
    return {"pairs": len(pairs), "votes_an_order": votes, "measured": measured, "replayed": replays}


def main() -> None:
    """Measures one model, and writes its result beside those of others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--name", help="The model's name in the result; the default is the model as given.")
    parser.add_argument("--pairs", type=int, default=160)
    parser.add_argument("--votes", type=int, default=32)
    options = parser.parse_args()
    records = [json.loads(line) for line in (ROOT / "stj/mini/data/heldout.jsonl").read_text().splitlines()]
    step = max(1, len(records) // options.pairs)  # the file is in order of its kinds
    pairs = [Asked(row["instruction"], row["chosen"], row["rejected"]) for row in records[::step]]
    result = asyncio.run(measure(options.model, pairs, options.votes))
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.write_text(json.dumps({**results, options.name or options.model: result}, indent=1) + "\n")
    print(json.dumps(result["replayed"], indent=1))


if __name__ == "__main__":
    main()
