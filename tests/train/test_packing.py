import random
import statistics
from itertools import chain, groupby

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.lengths import paper_lengths
from stj.train.data import encode_examples, kept_examples
from stj.train.packing import fill_rows, micro_batches, pack, plan_packing
from stj.train_config import TrainConfig
from tests.train.conftest import make_example, make_tokenizer

LENGTHS = st.lists(st.integers(1, 100), min_size=1, max_size=60)


def configured(accumulation: int = 1, **changes: int) -> TrainConfig:
    return TrainConfig(max_seq_len=100, max_num_tokens=200, gradient_accumulation=accumulation, **changes)


def names(lengths: list[int]) -> list[str]:
    return [f"id{i}" for i in range(len(lengths))]


@given(LENGTHS, st.integers(1, 4), st.integers(1, 3))
def test_every_example_is_in_one_step_of_an_epoch_and_every_rank_has_as_many_batches(
    lengths: list[int], ranks: int, accumulation: int
) -> None:
    steps = plan_packing(names(lengths), lengths, configured(accumulation, max_epochs=2), ranks)
    for epoch in (0, 1):
        seen = [index for step in steps if step.epoch == epoch for index in step.examples]
        assert sorted(seen) == list(range(len(lengths)))
    for step in steps:
        assert step.examples
        assert all(len(step.of_rank(rank, ranks)) == accumulation for rank in range(ranks))
        assert sorted(i for rank in range(ranks) for batch in step.of_rank(rank, ranks) for i in batch) == sorted(step.examples)


@given(LENGTHS, st.integers(0, 1000))
def test_packed_rows_stay_in_the_budget(lengths: list[int], seed: int) -> None:
    for step in plan_packing(names(lengths), lengths, configured(seed=seed), 2):
        assert all(sum(lengths[index] for index in batch) <= 200 for batch in step.micro_batches)


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_a_curriculum_goes_from_easy_to_hard_in_each_epoch(seed: int) -> None:
    rng = random.Random(seed)
    lengths = [rng.randint(20, 100) for _ in range(400)]
    difficulties = [rng.choice((0.0, 0.5, 1.0, None)) for _ in lengths]
    for epoch in (0, 1):
        batches = micro_batches(names(lengths), lengths, 200, seed, epoch, difficulties)
        assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
        known = [difficulties[index] for index in chain.from_iterable(batches) if difficulties[index] is not None]
        third = len(known) // 3
        assert (
            statistics.fmean(known[:third]) < statistics.fmean(known[third : 2 * third]) < statistics.fmean(known[2 * third :])
        )
        unknown = [place for place, index in enumerate(chain.from_iterable(batches)) if difficulties[index] is None]
        assert 0.3 < statistics.fmean(unknown) / len(lengths) < 0.7  # spread over the whole epoch


@given(LENGTHS, st.integers(0, 1000))
def test_examples_without_a_place_in_a_curriculum_are_in_the_order_of_no_curriculum(lengths: list[int], seed: int) -> None:
    ids = names(lengths)
    assert micro_batches(ids, lengths, 200, seed, 0, [None] * len(ids)) == micro_batches(ids, lengths, 200, seed, 0)


@given(LENGTHS)
def test_a_row_is_filled_as_well_as_any_choice_could_fill_it(lengths: list[int]) -> None:
    first, *_ = fill_rows(range(len(lengths)), lengths, 200)
    sums = {max(lengths)}
    for index, length in enumerate(lengths):
        if index != lengths.index(max(lengths)):
            sums |= {total + length for total in sums if total + length <= 200}
    assert sum(lengths[index] for index in first) == max(sums)


@pytest.mark.slow
@given(st.integers(0, 2**31), st.integers(1000, 2000))
def test_at_least_97_percent_of_the_budget_is_useful_on_the_lengths_of_the_paper(seed: int, count: int) -> None:
    lengths = [prompt + judgment for prompt, judgment in paper_lengths(count, seed)]
    assert max(lengths) <= 4096
    batches = micro_batches(names(lengths), lengths, 8192, seed, 0)
    assert sum(lengths) / (8192 * len(batches)) >= 0.97


def test_a_row_holds_texts_one_after_another_and_learns_their_judgments() -> None:
    tokenizer = make_tokenizer()
    tokens, _ = kept_examples(encode_examples(tokenizer, [make_example(0), make_example(5)], [259], TrainConfig()))
    packed = pack(tokens)
    texts = [row.texts[0] for row in tokens]
    assert packed.lengths == tuple(map(len, texts))
    assert packed.inputs.tolist() == [[*texts[0], *texts[1]]]
    assert packed.positions.tolist() == [[*range(len(texts[0])), *range(len(texts[1]))]]
    assert torch.equal(packed.inputs[0, packed.learned + 1], packed.targets)
    runs = groupby(enumerate(packed.learned.tolist()), key=lambda pair: pair[1] - pair[0])
    learned = [[packed.targets[i] for i, _ in run] for _, run in runs]
    assert [tokenizer.decode(ids) for ids in learned] == [
        "My final verdict is [[A]]<|end|>",
        "My final verdict is [[B]]<|end|>",
    ]


@given(LENGTHS)
def test_two_ranks_see_what_one_rank_sees_with_twice_the_accumulation(lengths: list[int]) -> None:
    ids = names(lengths)
    assert plan_packing(ids, lengths, configured(2), 1) == plan_packing(ids, lengths, configured(1), 2)


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    lengths = [10 + i % 50 for i in range(300)]
    first, again = (plan_packing(names(lengths), lengths, configured(), 2) for _ in range(2))
    other = plan_packing(names(lengths), lengths, configured(seed=3), 2)
    assert first == again != other
    by_epoch = [[step.examples for step in first if step.epoch == epoch] for epoch in (0, 1)]
    assert by_epoch[0] != by_epoch[1]


def test_steps_of_an_epoch_are_even() -> None:
    lengths = [100] * 18  # 9 micro-batches of two, 8 to a step
    counts = [len(step.examples) for step in plan_packing(names(lengths), lengths, configured(4, max_epochs=1), 2)]
    assert counts == [8, 10]


def test_max_steps_ends_the_plan_early() -> None:
    assert len(plan_packing(names([100] * 40), [100] * 40, configured(max_steps=3), 2)) == 3
