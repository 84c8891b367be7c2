"""The rows that go into each pass: read, counted, and checked before anything starts."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import islice
from typing import Any, Literal

from stj.config import Config, SourceConfig
from stj.errors import ConfigError, SourceError
from stj.evals.benchmarks.refs import BenchmarkRef, is_benchmark
from stj.findings import Check, Finding, look, require
from stj.loop.all_benchmarks import KEEP_OUT, all_benchmarks, keeps_out_all, not_kept_out, not_read_words
from stj.loop.benchmarks import run_benchmarks, unused_settings
from stj.loop.curated import as_curated, check_curation
from stj.loop.labelled import check_learnable
from stj.loop.named_pairs import (
    BenchmarkPlace,
    count_heldout,
    heldout_benchmark,
    kept_out_places,
    read_heldout,
    with_cached_benchmarks,
)
from stj.loop.questions import answered_rows
from stj.loop.reading import resumable, sum_of, unchanged
from stj.pair_mixing import raised_words
from stj.pair_sources import PairSource
from stj.rows import TRAINING, Row, row_from_dict
from stj.sources import check_source, read_rows, source_identity, source_size
from stj.sources.answer_overlap import drop_repeats
from stj.sources.heldout import heldout_size, read_pairs
from stj.sources.heldout_grades import heldout_grades_size, read_heldout_grades
from stj.sources.hub import check_reachable, is_hub_dataset
from stj.sources.labelled import KEY as LABELLED
from stj.sources.labelled import labelled_identities, read_labelled
from stj.sources.near_duplicates import drop_near_duplicates
from stj.sources.overlap import Place, read_texts
from stj.sources.preferences import (
    NO_KNOWN_ANSWER,
    on_hub,
    preferences_identity,
    preferences_size,
    read_preferences,
    source_content,
)
from stj.sources.unread import BAD_FIELD, UNREAD
from stj.stages.select import reject_unasked, without_results
from stj.storage.artifacts import Artifact
from stj.train_config import TrainConfig

PassPart = Literal["answers", "pairs", "opinions", "judge", "judge_again", "heldout"]
"""What a pass does. A policy answers questions. Members of the panel give opinions on the training pairs. A model that was
warmed up judges them again."""
_OF_PAIRS: set[PassPart] = {"opinions", "judge", "judge_again"}
"""The parts that read the training pairs."""

Answered = Mapping[str, Artifact]
"""The passes in which policies answered questions, by the name of the source in `preferences`."""

SELECTED_ON = "train.selection.path"
_FIRST_ROWS = 100
_FIRST_ROWS_OF_HUB = 10  # Each may be downloaded by a request of its own.


def read_training(
    config: Config,
    parts: Collection[PassPart],
    pairs: Artifact | None,
    identity: Mapping[str, Any] | None = None,
    curated: Artifact | None = None,
    answered: Answered | None = None,
) -> Iterator[Row]:
    """The training rows that go into a pass, in input order: instructions, or the pairs that were made of them.

    `pairs` is the pass that made the pairs, None if this pass makes them. `identity` is the content that the sources must have
    (`sources_key`). `curated` holds what curation decided about each row, if the config asks for it. `answered` are the passes
    in which policies answered the questions of their sources.

    Raises SourceError if a file of the source cannot be read any further, or was changed since.
    """
    if "pairs" in parts:
        rows = _to_pairs(config, answered) if curated is None else as_curated(_rows_of_sources(config, answered), curated)
        yield from resumable(unchanged(rows, partial(sources_key, config), identity, _named(config)))
    elif pairs is not None and not _OF_PAIRS.isdisjoint(parts):
        for row in training_pairs(map(row_from_dict, pairs.records())):
            yield replace(without_results(row), pair=row.pair, prompt_tokens=0, output_tokens=0)


def read_uncurated(config: Config, identity: Mapping[str, Any] | None = None) -> Iterator[Row]:
    """The rows that curation decides about, in input order. Raises SourceError as `read_training` does."""
    return unchanged(_to_pairs(config, None), partial(sources_key, config), identity, _named(config))


def _to_pairs(config: Config, answered: Answered | None) -> Iterator[Row]:
    """The rows that become pairs: first those of other sources, so that the limit of synthetic pairs leaves none out.

    Rows that repeat a benchmark, and instructions that repeat an earlier one, become tombstones. An instruction that the rule
    rejects before any model is asked hides no other: if the first copy is marked toxic, the second one stays.
    """
    rows = drop_repeats(_rows_of_sources(config, answered), kept_out(config))
    if config.source.near_duplicates is None:
        return rows

    def is_compared(row: Row) -> bool:
        return row.origin is None and reject_unasked(row, config.select) is None

    return drop_near_duplicates(rows, config.source.near_duplicates, is_compared)


def _rows_of_sources(config: Config, answered: Answered | None) -> Iterator[Row]:
    given = 0
    for source in config.preferences:
        artifact = answered.get(source.title) if answered else None
        for row in read_preferences([source]) if artifact is None else answered_rows(artifact, source):
            yield replace(row, position=given)
            given += 1
    if config.makes_synthetic:
        for row in read_rows(config.source):
            yield replace(row, position=given + row.position) if given else row


def sources_key(config: Config) -> dict[str, Any]:
    """The content of all that pairs are made of, for keys. Raises SourceError if a file is missing."""
    given = preferences_identity(config.preferences)
    path = source_identity(config.source) if config.makes_synthetic else None
    return {"path": path, **({"preferences": given} if given else {})}


def _named(config: Config) -> str:
    """The settings that name what pairs are made of."""
    synthetic = [f"source.path={config.source.path}"] if config.makes_synthetic else []
    given = [f"{source.key}.path={source.path}" for source in config.preferences if source.given and source.path]
    return " or ".join([*synthetic, *given]) or "the data"


def read_measured(config: Config, parts: Collection[PassPart]) -> Iterator[Row]:
    """The held-out pairs that go into a pass, after its training rows: they fill the engine while the last of those finish."""
    if "heldout" in parts:
        if config.heldout.path is not None:
            yield from read_heldout(config.heldout)
        yield from read_heldout_grades(config)


def count_inputs(config: Config, parts: Collection[PassPart], pairs: Artifact | None) -> int | None:
    """About how many rows go into a pass; None if a source cannot be counted without reading it."""
    counts: list[int | None] = []
    if "pairs" in parts:
        counts += [preferences_size(source) for source in config.preferences if source.given]
        if config.makes_synthetic:
            counts.append(source_size(config.source))
    elif pairs is not None and not _OF_PAIRS.isdisjoint(parts):
        counts.append(pairs.manifest().get("pairs"))
    if "heldout" in parts:
        counts += [count_heldout(config.heldout) if config.heldout.path else 0, heldout_grades_size(config)]
    return sum_of(counts)


def training_pairs(rows: Iterable[Row]) -> Iterator[Row]:
    """The training rows that became pairs. Held-out pairs may share a pass with them."""
    return (row for row in rows if row.task == TRAINING and row.pair is not None)


def kept_out(config: Config) -> list[Place]:
    """The files whose texts are kept out of the training pairs: benchmarks, held-out pairs and pairs for selection."""
    selected_on = config.train.selection.path
    more = [Place(SELECTED_ON, selected_on)] if selected_on and selected_on != config.heldout.path else []
    return kept_out_places(config) + more


def read_selection_pairs(config: Config) -> Iterator[Row]:
    """The held-out pairs that checkpoints are chosen by, if any. Raises ConfigError if they are a benchmark's."""
    refuse_selecting_on_benchmark(config)
    return read_pairs(config.selected_on, SELECTED_ON)


def refuse_selecting_on_benchmark(config: Config) -> None:
    """Raises ConfigError if checkpoints would be chosen by a benchmark."""
    path = config.train.selection.path
    if path is not None and is_benchmark(path):
        raise ConfigError(f"{SELECTED_ON}={path}: a benchmark must not select checkpoints: name a file of other pairs")


def count_selection_pairs(config: Config) -> int | None:
    """About how many pairs checkpoints are chosen by; None if they cannot be counted without reading them."""
    return heldout_size(config.selected_on, SELECTED_ON)


def check_inputs(config: Config) -> None:
    """Fails early on bad inputs of this machine: `input_findings` without the hub.

    Raises SourceError, ConfigError if a tracker is not installed, and CheckFailed if several inputs are bad.
    """
    require(input_findings(config, hub=False))


def input_findings(config: Config, *, hub: bool = True) -> list[Finding]:
    """Findings on the inputs: the held-out pairs, benchmarks, the texts to keep out, and the first rows of the source.

    `hub` also reads first rows of a data set on the hub.
    """
    config = with_cached_benchmarks(config)
    checks: dict[str, Check] = {"source": partial(_check_source, config, hub)} if config.makes_synthetic else {}
    for source in config.preferences:
        if source.given:
            checks[source.key] = partial(_check_preferences, config, source, hub)
    if config.examples.labelled:
        checks[LABELLED] = partial(_check_labelled, config, hub)
    if config.curate.embeds:
        parts: tuple[PassPart, ...] = ("pairs",)
        checks["curate"] = partial(check_curation, config, partial(count_inputs, config, parts, None), hub)
    if config.train.trackers:
        checks["train.trackers"] = partial(_check_trackers, config.train)
    if config.train.deepspeed:
        checks["train.deepspeed"] = partial(_check_deepspeed, config.train)
    if config.heldout.path is not None:
        checks["heldout.path"] = partial(_check_heldout, config, hub)
    if config.heldout.grades is not None:
        checks["heldout.grades"] = partial(_counted, partial(read_heldout_grades, config), "responses")
    if config.benchmarks:
        checks["benchmarks"] = partial(_check_benchmarks, config, hub)
    if config.train.selection.path is not None:
        checks[SELECTED_ON] = partial(_check_selection, config)
    findings = [look(subject, check) for subject, check in checks.items()]
    places_to_read = [place for place in kept_out(config) if place.key not in checks]
    findings += [look(place.key, partial(_check_place, place, hub)) for place in places_to_read]
    return findings + ([look(KEEP_OUT, partial(_check_all_benchmarks, config))] if keeps_out_all(config.source) else [])


def _check_heldout(config: Config, hub: bool) -> str:
    ref = heldout_benchmark(config.heldout)
    first_of_hub = None if ref is None or ref.is_local else _from_hub(ref, hub)
    return first_of_hub or _judgeable(read_heldout(config.heldout), f"heldout.path={config.heldout.path}")


def _check_preferences(config: Config, source: PairSource, hub: bool) -> str:
    """Reads and so checks all rows of a file, or the first of a data set on the hub."""
    content = source_content(source)
    named = f"{source.key}.path={source.path or 'null'}"
    _refuse_measured(config, named, content)
    policy_of = config.policy_of
    alike = (other for other in config.preferences if other.given and source_content(other) == content)
    same = next(other for other in alike if not other.asks or not source.asks or policy_of(other) == policy_of(source))
    if same != source:
        raise ConfigError(f"{named}: {same.key} has the same data; leave one of them out")
    raised = raised_words(source, config.mixed_preferences)
    if (there := on_hub(source)) is not None:
        if hub:
            check_reachable(there, f"{source.key}.path")
            next(read_preferences([source]))
        return f"{there.path} on the hub{raised}"
    rows = Counter(row.dropped for row in read_preferences([source]))
    reasons = Counter({reason: count // source.per_question for reason, count in rows.items()})
    dropped = _listed(reasons)
    if not (usable := reasons[None]):
        raise SourceError(f"{named}: none of its {reasons.total():,} rows can be learned ({dropped}); {_remedy(reasons)}")
    left_out = f", not learned: {dropped}" if dropped else ""
    return f"{usable:,} {source.things}{left_out}{raised}"


def _remedy(reasons: Counter[str | None]) -> str:
    """What to do about a source none of whose rows can be learned."""
    if not reasons[NO_KNOWN_ANSWER]:
        return "name other data"
    return (
        "give each question an answer that is a number, or words. Without one, only a judge knows which of two answers is "
        "better: name the file as source.path, and its pairs are made by construction"
    )


def _check_labelled(config: Config, hub: bool) -> str:
    """Reads and so checks all that lie in files, and the first of each data set on the hub."""
    default = config.grading.default_rubric
    there = [place for place in config.examples.labelled if is_hub_dataset(place)]
    for place in there if hub else ():
        check_reachable(SourceConfig(path=place), LABELLED)
        next(read_labelled((place,), default))
    files = tuple(place for place in config.examples.labelled if place not in there)
    for place, identity in zip(config.examples.labelled, labelled_identities(config.examples.labelled), strict=True):
        _refuse_measured(config, f"{LABELLED}={place}", identity)
    counted = [_counted(partial(read_labelled, files, default), "labelled judgments")] if files else []
    if files and not there:
        check_learnable(config, files)
    return ", ".join([*counted, *(f"{place} on the hub" for place in there)])


def _refuse_measured(config: Config, setting: str, identity: str) -> None:
    """Raises ConfigError if the data of a setting is what measures the judges."""
    for place in kept_out(config):
        if place.identity() == identity:
            raise ConfigError(f"{setting}: holds what {place.key}={place.location} measures; name other data in one of them")


def _check_benchmarks(config: Config, hub: bool) -> str:
    """Reads and so checks the benchmarks in files."""
    sizes = ", ".join(f"{ref.name} {_check_benchmark(ref, hub)}" for ref in run_benchmarks(config))
    return "; ".join(filter(None, [sizes, unused_settings(config)]))


def _check_benchmark(ref: BenchmarkRef, hub: bool) -> str:
    if not ref.is_local:
        return _from_hub(ref, hub)
    rows = ref.size()
    if not rows:
        raise SourceError(f"{ref.word}: holds no rows to judge")
    return f"{rows:,} rows"


def _check_all_benchmarks(config: Config) -> str:
    """Which benchmarks are kept out by `all`. Raises ConfigError if none is."""
    missing, known = not_kept_out(config.source), all_benchmarks()
    if len(missing) == len(known):
        raise ConfigError(
            f"{KEEP_OUT}=all: none of the {len(known)} benchmarks is in this machine's cache: fetch them with "
            "`hf download --repo-type dataset ID`, or name files beside it: [all, rewardbench:FILE]"
        )
    return f"all: {len(known) - len(missing)} of {len(known)} benchmarks{not_read_words(missing)}"


def _check_place(place: Place, hub: bool) -> str:
    if isinstance(place, BenchmarkPlace) and not place.ref.is_local:
        return _from_hub(place.ref, hub)
    return _counted(partial(read_texts, place), "texts")


def _from_hub(ref: BenchmarkRef, hub: bool) -> str:
    """Reads the first row of a benchmark on the hub, if `hub` allows it."""
    if hub:
        ref.check_reachable()
        if not any(True for _ in ref.rows(1)):
            raise SourceError(f"{ref.word}: holds no rows")
    return "on the hub"


def _check_selection(config: Config) -> str:
    return _judgeable(read_selection_pairs(config), f"{SELECTED_ON}={config.train.selection.path}")


def _judgeable(rows: Iterable[Row], setting: str) -> str:
    """The number of pairs, and of those that are not judged by reason. Raises SourceError if none is."""
    reasons = Counter(row.dropped for row in rows)
    dropped = _listed(reasons)
    if not reasons[None]:
        raise SourceError(f"{setting}: none of its {reasons.total():,} pairs can be judged ({dropped}); name other pairs")
    return f"{reasons.total():,} pairs{f', not judged: {dropped}' if dropped else ''}"


def _listed(reasons: Counter[str | None]) -> str:
    """How many rows are dropped by each reason, in words."""
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items(), key=str) if reason)


def _counted(read: Callable[[], Iterator[object]], things: str) -> str:
    """Reads and so checks all of them."""
    return f"{sum(1 for _ in read()):,} {things}"


def _check_source(config: Config, hub: bool) -> str:
    source = config.source
    on_hub = is_hub_dataset(source.path)
    if on_hub and not hub:
        return f"{source.path} on the hub"
    if on_hub:
        check_reachable(source)
    first = list(islice(read_rows(source), _FIRST_ROWS_OF_HUB if on_hub else _FIRST_ROWS))
    unread = _refuse_unread(first, source)
    size = check_source(source)
    return f"{source.path}: {'its first rows can be read' if size is None else f'about {size:,} rows'}{unread}"


def _refuse_unread(first: Sequence[Row], source: SourceConfig) -> str:
    """Words on rows that cannot be read, empty if there are none. Raises SourceError if the config, not a line, seems wrong."""
    unread = [row for row in first if row.dropped in UNREAD]
    if not unread:
        return ""
    detail = unread[0].detail
    if len(unread) == len(first):
        raise SourceError(f"source.path={source.path}: {detail}; all of the first rows are like that")
    if 2 * sum(row.dropped == BAD_FIELD for row in unread) > len(first):  # the wrong id_field has a usable first row
        raise SourceError(f"source.path={source.path}: {detail}; most of the first rows are like that")
    return f"; {len(unread)} of the first {len(first)} cannot be read and are left out ({detail})"


def _check_trackers(train: TrainConfig) -> str:
    for name in train.trackers:
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # Without an origin it is only a directory with this name.
            raise ConfigError(f"train.trackers: {name} is not installed: pip install 'stj[trackers]', or leave it out")
    return f"{', '.join(train.trackers)} installed"


def _check_deepspeed(train: TrainConfig) -> str:
    from stj.train.zero import check_deepspeed  # torch takes seconds to import

    check_deepspeed(train)
    return "DeepSpeed takes these settings"
