"""The benchmarks by name. Each has one small file that loads and scores it."""

from stj.evals.benchmarks.attacks import ATTACK_CARD
from stj.evals.benchmarks.base import Benchmark
from stj.evals.benchmarks.helpsteer2 import HELPSTEER2, HELPSTEER2_HELPFULNESS
from stj.evals.benchmarks.hhh import HHH
from stj.evals.benchmarks.judgebench import JUDGEBENCH
from stj.evals.benchmarks.llmbar import LLMBAR
from stj.evals.benchmarks.mtbench import MTBENCH
from stj.evals.benchmarks.pairs import PAIRS
from stj.evals.benchmarks.rewardbench import REWARDBENCH
from stj.evals.benchmarks.rewardbench2 import REWARDBENCH2, REWARDBENCH2_RATINGS
from stj.evals.benchmarks.rmbench import RMBENCH

_ALL = (
    *(REWARDBENCH, REWARDBENCH2, REWARDBENCH2_RATINGS, MTBENCH, HELPSTEER2, HELPSTEER2_HELPFULNESS),
    *(LLMBAR, JUDGEBENCH, RMBENCH, HHH, PAIRS, ATTACK_CARD),
)
BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
