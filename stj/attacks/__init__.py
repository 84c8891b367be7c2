"""Attacks on a judge: changes of a pair's worse answer that make it look better, but not better.

    words.py    what is written into an answer, in two sets: one measures judges, the other trains them
    kinds.py    the attacks by name, each a pure function of a pair
    use.py      attacked pairs: one that measures a judge, one that trains it

The better answer never changes, so the right verdict stays right. Each choice is a function of the seed, the row's id and the
attack (randomness.py). `stj attack` and `benchmarks: [attacks:FILE]` measure a judge; `pairs.attacked` trains on such pairs.

The kinds come from the literature, the words are ours: "master keys" (Zhao et al., arXiv 2507.08794), answers of null models
and forged prompts (Zheng et al., arXiv 2410.07137), planted verdicts (Shi et al., arXiv 2403.17710; Maloyan et al., arXiv
2505.13348), authority and rich formatting (Chen et al., arXiv 2402.10669), and verbosity (Zheng et al., arXiv 2306.05685).
Attacks that are optimised against one model (suffixes found by gradients) are not among them.
"""
