"""The settings of a run with paths that processes in other working directories understand."""

from dataclasses import replace

from stj.config import Config
from stj.curating.embedding import absolute_embedding
from stj.loop.benchmarks import run_benchmarks
from stj.loop.inputs import refuse_selecting_on_benchmark
from stj.loop.named_pairs import absolute_place, absolute_places
from stj.models.locate import with_absolute_path
from stj.pair_sources import PairSource
from stj.panel import PanelMember
from stj.storage.folder import absolute_path


def with_absolute_paths(config: Config) -> Config:
    """The config with paths that processes in other working directories understand."""
    preferences = [_source_with_absolute_paths(source) for source in config.preferences]
    models = replace(
        config.models,
        generator=with_absolute_path(config.models.generator),
        first_judge=with_absolute_path(config.models.first_judge),
        seed=with_absolute_path(config.models.seed),
    )
    judge = replace(config.judge, panel=[_member_with_absolute_path(member) for member in config.judge.panel])
    heldout = config.heldout
    if heldout.path is not None:
        heldout = replace(heldout, path=absolute_place("heldout.path", heldout.path))
    examples = replace(config.examples, labelled=tuple(map(absolute_path, config.examples.labelled)))
    if heldout.grades is not None:
        heldout = replace(heldout, grades=absolute_path(heldout.grades))
    selection = config.train.selection
    if selection.path is not None:
        refuse_selecting_on_benchmark(config)
        selection = replace(selection, path=absolute_path(selection.path))
    keep_out = absolute_places("source.keep_out", config.source.keep_out)
    source = replace(config.source, path=absolute_path(config.source.path), keep_out=keep_out)
    train = replace(config.train, selection=selection)
    embedding_model = config.curate.embedding_model
    curate = replace(
        config.curate,
        embedding=absolute_embedding(config.curate.embedding),
        embedding_model=embedding_model and replace(embedding_model, path=absolute_path(embedding_model.path)),
    )
    benchmarks = tuple(ref.word for ref in run_benchmarks(config))
    return replace(
        config,
        models=models,
        source=source,
        curate=curate,
        preferences=preferences,
        judge=judge,
        heldout=heldout,
        benchmarks=benchmarks,
        examples=examples,
        train=train,
    )


def _source_with_absolute_paths(source: PairSource) -> PairSource:
    path = None if source.path is None else absolute_path(source.path)
    return replace(source, path=path, model=None if source.model is None else with_absolute_path(source.model))


def _member_with_absolute_path(member: PanelMember) -> PanelMember:
    return member if member.model is None else replace(member, model=with_absolute_path(member.model))
