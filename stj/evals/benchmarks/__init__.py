"""The benchmarks by name. Each has one small file that loads and scores it."""

from stj.evals.benchmarks.attacks import ATTACK_CARD
from stj.evals.benchmarks.base import Benchmark
from stj.evals.benchmarks.grades import GRADES
from stj.evals.benchmarks.helpsteer2 import HELPSTEER2, HELPSTEER2_HELPFULNESS
from stj.evals.benchmarks.hhh import HHH
from stj.evals.benchmarks.judgebench import JUDGEBENCH
from stj.evals.benchmarks.llmbar import LLMBAR
from stj.evals.benchmarks.mtbench import MTBENCH
from stj.evals.benchmarks.pairs import PAIRS
from stj.evals.benchmarks.ppe_correctness import PPE_CORRECTNESS
from stj.evals.benchmarks.ppe_human import PPE_HUMAN
from stj.evals.benchmarks.rewardbench import REWARDBENCH
from stj.evals.benchmarks.rewardbench2 import REWARDBENCH2, REWARDBENCH2_RATINGS
from stj.evals.benchmarks.rmbench import RMBENCH

_HEADLINE = (PPE_HUMAN, PPE_CORRECTNESS, JUDGEBENCH, RMBENCH)
_ALL = (
    *_HEADLINE,
    *(REWARDBENCH, REWARDBENCH2, REWARDBENCH2_RATINGS, LLMBAR),
    *(MTBENCH, HELPSTEER2, HELPSTEER2_HELPFULNESS, HHH, PAIRS, ATTACK_CARD, GRADES),
)
BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
"""The benchmarks that still separate judges come first."""
BENCHMARK_GROUPS: dict[str, tuple[str, ...]] = {"headline": tuple(benchmark.name for benchmark in _HEADLINE)}
"""Words that stand for several benchmarks."""
