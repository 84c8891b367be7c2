"""When votes end: the exact rule against all votes, and the stated error of the other one, exactly and in simulations."""

import asyncio
import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config import HeldoutConfig, StopRule
from stj.errors import ConfigError
from stj.evals.benchmarks import BENCHMARKS
from stj.evals.benchmarks.evaluation import judged_examples
from stj.evals.evaluate import judge_benchmark
from stj.evals.metrics import VerdictsByOrder
from stj.generate import Completion, Sampling, SeededSampling
from stj.rows import Candidates, Pair, Row, Turn
from stj.stages.runner import RequestSeeds, TokenCounter, wait_forever
from stj.stages.stopping import Stopping, VotesAsked, greatest_error, stopping_lead
from stj.stages.vote import PairVerdict, first_rounds, pair_verdict, vote
from stj.use_config import VoteConfig
from stj.verdict import PARSERS
from tests.conftest import make_row

PAIR = Pair(method="open", chosen="the first", rejected="the second")
TEXTS = {
    **{label: f"It is [[{label}]]" for label in "ABCD"},
    "tie": "[[A=B]]",
    "none": "I do not know",
    "late": "[[A]] because it is.",
}


class Judge:
    """Answers the n-th request of each order with the n-th of its texts, after a number of turns of the event loop."""

    def __init__(self, votes: Sequence[Sequence[str]], turns: random.Random) -> None:
        self._orders = iter(votes)
        self._texts: dict[str, Iterator[str]] = {}
        self._turns = turns
        self.asked = 0

    async def __call__(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        self.asked += 1
        shown = messages[-1].content
        if shown not in self._texts:
            self._texts[shown] = iter(next(self._orders))
        text = TEXTS[next(self._texts[shown])]
        for _ in range(self._turns.randrange(5)):
            await asyncio.sleep(0)
        return Completion(text=text, finish_reason="stop", prompt_tokens=1, output_tokens=1)

    async def room(self) -> None:
        await wait_forever()


def judged(votes: Sequence[Sequence[str]], turns: int = 0, **settings: object) -> tuple[PairVerdict, int]:
    config = VoteConfig(votes=len(votes[0]), **settings)  # type: ignore[arg-type]
    judge = Judge(votes, random.Random(turns))
    return pair_verdict(asyncio.run(vote(make_row(pair=PAIR), judge, config)), config), judge.asked


def orders_of_votes(most: int, orders: int = 2) -> st.SearchStrategy[list[list[str]]]:
    """The votes of each order, often nearly unanimous or nearly tied."""
    word = st.sampled_from(sorted(TEXTS))
    near = st.builds(
        lambda n, flips: [("B" if i in flips else "A") for i in range(n)], st.just(most), st.sets(st.integers(0, most))
    )
    return st.lists(st.lists(word, min_size=most, max_size=most) | near, min_size=orders, max_size=orders)


@pytest.mark.slow
@given(votes=st.integers(1, 12).flatmap(orders_of_votes), turns=st.integers(0, 99), rule=st.sampled_from(["exact", "unlikely"]))
def test_exact_gives_the_verdict_of_all_votes_and_no_rule_depends_on_what_arrives_first(
    votes: list[list[str]], turns: int, rule: StopRule
) -> None:
    every, asked_by_all = judged(votes, stop="all")
    stopped, asked = judged(votes, stop=rule, stop_error=0.2)
    assert asked_by_all == every.most_votes == stopped.most_votes == len(every.votes)
    assert asked == len(stopped.votes) <= len(every.votes)
    assert stopped.votes == every.votes[:asked]
    assert judged(votes, turns, stop=rule, stop_error=0.2) == (stopped, asked)
    if rule == "exact":
        assert stopped.verdict == every.verdict
        left = every.most_votes - asked  # What is left could not change it, and one round less could have.
        count = Counter(vote.verdict for vote in stopped.votes)
        assert left == 0 or abs(count["A"] - count["B"]) > left
        before = Counter(vote.verdict for vote in stopped.votes[:-2])
        assert abs(before["A"] - before["B"]) <= left + 2


def test_a_vote_has_the_seed_of_its_number_whenever_the_others_stop() -> None:
    def seeds(rule: StopRule) -> list[int]:
        asked: list[int] = []

        async def ask(messages: Sequence[Turn], sampling: Sampling) -> Completion:
            assert isinstance(sampling, SeededSampling)
            asked.append(sampling.seed)
            return Completion(
                text="[[A]]" if sampling.seed % 3 else "[[B]]", finish_reason="stop", prompt_tokens=1, output_tokens=1
            )

        row = make_row(pair=PAIR)
        asyncio.run(vote(row, TokenCounter(ask, seeds=RequestSeeds(0, row.id)), VoteConfig(votes=32, stop=rule)))
        return asked

    every, few = seeds("all"), seeds("unlikely")
    assert few == every[: len(few)]
    assert len(set(every)) == 64


@pytest.mark.parametrize(("rule", "asked"), [("all", 64), ("exact", 34), ("unlikely", 10)])
def test_the_calls_that_equal_votes_save_at_32_votes_an_order(rule: StopRule, asked: int) -> None:
    result, requests = judged([["A"] * 32, ["B"] * 32], stop=rule)
    assert (result.verdict, result.confidence, requests, result.most_votes) == ("A", 1, asked, 64)
    assert first_rounds(VoteConfig(votes=32, stop=rule)) == asked // 2
    assert result.plain()["most_votes"] == 64


def test_one_order_is_decided_by_17_equal_votes_of_32() -> None:
    exact = Stopping(rule="exact")
    assert exact.rounds_needed(Counter(), 32, 32, 1) == 17
    assert exact.rounds_needed(Counter(A=16), 16, 32, 1) == 1  # 16 all could still be a tie
    assert exact.rounds_needed(Counter(A=17), 15, 32, 1) == 0


FOUR = Candidates(answers=("one", "two", "three", "four"), good=1)


@pytest.mark.slow
@pytest.mark.parametrize("row", [make_row(task="pairs", pair=PAIR), make_row(task="rewardbench2", candidates=FOUR)])
@pytest.mark.parametrize("rule", [Stopping(rule="exact"), Stopping(rule="unlikely", error=1e-9)])
@given(votes=st.integers(2, 9).flatmap(partial(orders_of_votes, orders=4)))
def test_an_evaluation_scores_the_same_with_every_parser(row: Row, rule: Stopping, votes: list[list[str]]) -> None:
    """The parsers read "[[A]] because it is." differently, so a majority is settled only if it is for all of them."""

    def verdicts(stopping: Stopping) -> list[list[VerdictsByOrder]]:
        judge = Judge(votes, random.Random(0))
        judged = asyncio.run(judge_benchmark(row, judge, HeldoutConfig(), len(votes[0]), stopping=stopping))
        examples = [judged_examples([judged], BENCHMARKS[row.task], parser, votes=True) for parser in PARSERS]
        return [[example.verdicts for example in read] for read in examples]

    assert verdicts(rule) == verdicts(Stopping(rule="all"))


def sets_of_votes(votes: int) -> list[tuple[int, int, int]]:
    """Every number of votes for A, for B, and for neither."""
    return [(a, b, votes - a - b) for a in range(votes + 1) for b in range(votes - a + 1)]


State = tuple[tuple[int, int, int], ...]


def next_rounds(state: State, whole: State) -> Iterator[tuple[State, float]]:
    """Each state after another vote in every order, with its probability if the votes of an order come in random order."""
    if not state:
        yield (), 1.0
        return
    left = [there - here for here, there in zip(state[0], whole[0], strict=True)]
    for place in (place for place in range(3) if left[place]):
        moved = tuple(count + (place == index) for index, count in enumerate(state[0]))
        for others, chance in next_rounds(state[1:], whole[1:]):
            yield (moved, *others), chance * left[place] / sum(left)  # type: ignore[misc]


def sign(state: State) -> int:
    lead = sum(order[0] - order[1] for order in state)
    return (lead > 0) - (lead < 0)


def error_on(whole: State, votes: int, rule: Stopping) -> float:
    """The probability that the rule stops with another verdict than that of this set of votes."""
    states: dict[State, float] = {tuple((0, 0, 0) for _ in whole): 1.0}
    error = 0.0
    for asked in range(1, votes):
        reached: Counter[State] = Counter()
        for state, chance in states.items():
            for after, share in next_rounds(state, whole):
                reached[after] += chance * share  # type: ignore[assignment]
        states = {}
        for state, chance in reached.items():
            tally: Counter[str] = Counter(A=sum(order[0] for order in state), B=sum(order[1] for order in state))
            if rule.rounds_needed(tally, votes - asked, votes, len(whole)) > 0:
                states[state] = chance
            elif sign(state) != sign(whole):
                error += chance
    return error


def chance_of(whole: State, chances: Sequence[tuple[float, float, float]]) -> float:
    """The probability of a set of votes, by each order's chances of A, B and neither."""
    chance = 1.0
    for (a, b, neither), (for_a, for_b, for_neither) in zip(whole, chances, strict=True):
        sequences = math.comb(a + b + neither, a) * math.comb(b + neither, b)
        chance *= sequences * for_a**a * for_b**b * for_neither**neither
    return chance


@pytest.mark.slow
@pytest.mark.parametrize("error", [0.3, 0.1, 0.02])
@pytest.mark.parametrize(("orders", "votes"), [(1, 6), (1, 9), (1, 12), (2, 3), (2, 4), (2, 5)])
def test_the_stated_error_holds_whatever_the_chances_of_the_judge(orders: int, votes: int, error: float) -> None:
    """Exactly: over every set of votes, in every order of their coming, for a grid of chances in each order."""
    rule = Stopping(rule="unlikely", error=error)
    each = sets_of_votes(votes)
    errors = {whole: error_on(whole, votes, rule) for whole in itertools.product(each, repeat=orders)}
    kinds = [(a * (1 - n), (1 - a) * (1 - n), n) for a in (0.5, 0.45, 0.4, 0.3, 0.1) for n in (0.0, 0.1, 0.3)]
    kinds += [(b, a, n) for a, b, n in kinds]
    greatest = greatest_error(orders * votes, stopping_lead(votes, orders, error))
    assert greatest <= error
    for chances in itertools.combinations_with_replacement(kinds, orders):
        total = math.fsum(wrong * chance_of(whole, chances) for whole, wrong in errors.items() if wrong)
        assert total <= greatest + 1e-12
    fair = math.fsum(wrong * chance_of(whole, [(0.5, 0.5, 0.0)] * orders) for whole, wrong in errors.items())
    assert (orders * votes) % 2 or fair == pytest.approx(greatest, rel=0.04)  # no lower lead would do


@pytest.mark.slow
@pytest.mark.parametrize("chances", [(0.5, 0.5), (0.45, 0.5), (0.3, 0.7), (0.7, 0.7), (0.9, 0.9), (1.0, 0.0)])
def test_the_stated_error_holds_in_a_simulation_at_32_votes_an_order(chances: tuple[float, float]) -> None:
    """Judges with these chances of A in each order; in (0.3, 0.7) and (1, 0) they vote by position."""
    rule, coin = Stopping(rule="unlikely"), random.Random(str(chances))
    wrong = asked = 0
    for _ in range(2_000):
        steps = [sum(1 if coin.random() < chance else -1 for chance in chances) for _ in range(32)]
        lead = done = 0
        while more := rule.rounds_needed(Counter(A=max(0, lead), B=max(0, -lead)), 32 - done, 32, 2):
            lead, done = lead + sum(steps[done : done + more]), done + more
        asked += done
        total = sum(steps)
        wrong += ((total > 0) - (total < 0)) != ((lead > 0) - (lead < 0))
    assert wrong / 2_000 <= rule.error
    assert min(chances) < 0.7 or asked / 2_000 < 0.45 * 32


@pytest.mark.slow
def test_the_leads_are_the_smallest_ones() -> None:
    assert (stopping_lead(32, 1, 0.02), stopping_lead(32, 2, 0.02)) == (8, 10)
    for votes in (1, 2, 7, 32, 1000):
        for orders in (1, 2):
            lead = stopping_lead(votes, orders, 0.02)
            assert greatest_error(orders * votes, lead) <= 0.02
            assert lead == orders or greatest_error(orders * votes, lead - orders) > 0.02


def test_settings_that_contradict_each_other_are_refused() -> None:
    for error in (0, -1, 0.6, math.nan, math.inf):
        with pytest.raises(ConfigError, match=r"vote\.stop_error=.*: must be a share above 0, up to 0\.5"):
            VoteConfig(stop="unlikely", stop_error=error)
    with pytest.raises(ConfigError, match=r"vote\.stop=unlikely: vote\.aggregate=distribution is a mean"):
        VoteConfig(stop="unlikely", aggregate="distribution")


def test_a_key_is_as_it_was_before_there_were_rules_if_every_vote_is_asked() -> None:
    before = {"prompt", "parser", "votes", "decoding"}
    assert VoteConfig().key.keys() == VoteConfig(votes=8, stop="all").key.keys() == before
    assert VoteConfig(votes=8).key.keys() == before | {"stop"}
    assert VoteConfig(votes=8, stop="unlikely").key.keys() == before | {"stop", "stop_error"}
    assert VoteConfig(votes=8, aggregate="distribution").key.keys() == before | {"aggregate"}


def test_saved_votes_are_written_for_a_reader() -> None:
    assert str(VotesAsked(asked=10, most=40) + VotesAsked(asked=1000, most=2000)) == "1,010 votes asked of 2,040, 50% saved"
    assert str(VotesAsked()) == "0 votes asked of 0, 0% saved"
