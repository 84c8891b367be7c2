"""The plan of a run, with the sizes of its benchmarks and a look at its instructions: the planner lies below both."""

from stj.config import Config
from stj.loop.benchmarks import run_benchmarks
from stj.loop.named_pairs import count_heldout
from stj.loop.source_sample import source_sample
from stj.plan import Plan, plan
from stj.plan.cost import GivenPairs


def run_plan(config: Config) -> Plan:
    """The needs of a run.

    Raises ConfigError for an unknown benchmark and for settings that DeepSpeed refuses, and SourceError if a local file is
    missing or bad.
    """
    if config.train.deepspeed:
        from stj.train.zero import check_deepspeed  # torch takes seconds to import

        check_deepspeed(config.train)
    benchmarks = tuple((ref.name, ref.size(), max(1, ref.benchmark.samples)) for ref in run_benchmarks(config))
    heldout = 0 if config.heldout.path is None else count_heldout(config.heldout)
    given = GivenPairs(heldout=heldout, benchmarks=benchmarks)
    return plan(config, given=given, sample=source_sample(config))
