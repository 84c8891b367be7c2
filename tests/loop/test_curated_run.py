"""A run that curates its instructions: clusters, near-duplicates by meaning, a sample, a limit for each cluster, the report."""

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stj.config import Config
from stj.config_loader import load
from stj.errors import ArtifactError, ConfigError, SourceError
from stj.loop.curated import Decision
from stj.loop.diversity import _point
from stj.loop.doctor import diagnose_here
from stj.loop.inputs import check_inputs
from stj.loop.iterate import run_all
from stj.loop.kinds import TrainingPhase
from stj.loop.phases import Run
from stj.passes import spec
from stj.passes.spec import Pass
from stj.rows import Row
from stj.viewing.trace import trace
from stj.viewing.trace_text import passages
from tests import ray_here
from tests.kill_driver import MINI, make_engine, train

TOPICS = {
    "cooking": "bake fresh bread with flour, yeast and olive oil in a hot kitchen oven",
    "astronomy": "observe distant galaxies, planets and stars with a large telescope at night",
    "football": "train a football team for the league match with a strict coach and goalkeeper",
}
EACH = 40


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """A file with 40 instructions of three topics each, one topic after the other, and some repetitions."""
    texts = [f"{words}, in way {number}" for words in TOPICS.values() for number in range(EACH)]
    lines = [{"instruction": f"Question {number}: {text}"} for number, text in enumerate(texts, start=10)]
    place = tmp_path / "pool.jsonl"
    place.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Runs passes in this process, with an engine that logs each question and a training that takes no time."""
    ray_here.install(monkeypatch)
    log = tmp_path / "asked"
    monkeypatch.setattr(spec, "Pass", partial(Pass, make_engine=partial(make_engine, log=str(log))))
    monkeypatch.setattr(TrainingPhase, "run", train)
    return log


def config(pool: Path, *overrides: str) -> Config:
    settings = [f"run_root={pool.parent}/run", f"source.path={pool}", "source.kind=instructions", "source.limit=null"]
    settings += ["heldout.path=null", "iterations=1", "judge.samples=4", "select.limit=null", "engine.rows_in_flight=16"]
    return load([MINI], [*settings, "engine.max_replicas=1", "engine.min_replicas=1", *overrides])


KMEANS = ("curate.clustering=kmeans", "curate.clusters=3")


def manifest(pool: Path, artifact: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((pool.parent / "run" / artifact / "manifest.json").read_text())
    return facts


def decided(settings: Config) -> list[Row]:
    """The rows that go into the first pass, behind curation."""
    run = Run(settings)
    assert run.curation is not None
    if run.curation.artifact.begin():
        run.curation.run()
    assert run.pairs is not None
    return list(run.pairs.read_training())


def topic(row: Row) -> str:
    return next(name for name, words in TOPICS.items() if words in row.instruction)


@pytest.mark.slow
def test_clusters_are_the_topics_and_each_gives_its_first_rows(pool: Path, here: Path) -> None:
    lines: list[str] = []
    run_all(config(pool, *KMEANS, "select.per_cluster=5"), lines.append)
    assert any(line.startswith("curated: 120 of 120 rows embedded; 3 clusters") for line in lines)
    names = {cluster["name"] for cluster in manifest(pool, "curated")["clusters"]}
    assert {word for name in names for word in name.split(", ")} <= {
        word.strip(",") for words in TOPICS.values() for word in words.split()
    }
    run = Run(config(pool, *KMEANS, "select.per_cluster=5"))
    assert run.pairs is not None
    rows = list(run.pairs.rows())
    assert len({(row.cluster, topic(row)) for row in rows}) == 3
    [traced] = trace(str(pool.parent / "run"), rows[0].id).rows
    assert traced.cluster in [f"{cluster['number']} ({cluster['name']})" for cluster in manifest(pool, "curated")["clusters"]]
    assert f"cluster   {traced.cluster}" in "\n".join(map(str, passages(trace(str(pool.parent / "run"), rows[0].id))))
    paired = Counter(row.cluster for row in rows if row.pair)
    assert set(paired) == {0, 1, 2}
    assert max(paired.values()) <= 5
    passing = [row for row in rows if row.dropped not in ("category", "complexity", "length", "per_cluster")]
    last = {cluster: max(row.position for row in passing if row.cluster == cluster) for cluster in paired}
    assert Counter(row.cluster for row in passing) == {0: 5, 1: 5, 2: 5}
    assert all(row.position > last[row.cluster] for row in rows if row.dropped == "per_cluster")
    assert all(row.pair is None and not row.judgments for row in rows if row.dropped == "per_cluster")


@pytest.mark.slow
def test_a_finished_curation_is_not_made_again_and_other_settings_make_it_stale(pool: Path, here: Path) -> None:
    run_all(config(pool, *KMEANS), [].append)
    made = (pool.parent / "run/curated/manifest.json").stat().st_mtime_ns
    lines: list[str] = []
    (pool.parent / "run/pairs/manifest.json").unlink()
    run_all(config(pool, *KMEANS), lines.append)
    assert "curated: done already, reused" in lines
    assert (pool.parent / "run/curated/manifest.json").stat().st_mtime_ns == made
    with pytest.raises(ArtifactError, match=r"curate\.clusters: 3 -> 4"):
        run_all(config(pool, KMEANS[0], "curate.clusters=4"), [].append)


def test_choices_after_judging_leave_the_pairs_and_another_map_makes_nothing_else_again(pool: Path) -> None:
    settings = (*KMEANS, "iterations=2", "judge.sampling=all")
    keys = {phase.name: phase.artifact.key for phase in Run(config(pool, *settings)).phases}
    for later in ("curate.balance=[length]", "curate.label_noise=0.9"):
        chosen = {phase.name: phase.artifact.key for phase in Run(config(pool, *settings, later)).phases}
        assert [chosen[name] for name in ("curated", "pairs")] == [keys[name] for name in ("curated", "pairs")], later
        assert chosen["iteration_2/examples"] != keys["iteration_2/examples"]
    mapped = {phase.name: phase.artifact.key for phase in Run(config(pool, *settings, "curate.map=umap")).phases}
    assert [name for name in keys if mapped[name] != keys[name]] == ["curated"]


@pytest.mark.slow
def test_a_killed_curation_is_made_again_alike(pool: Path) -> None:
    first = [(row.id, row.cluster) for row in decided(config(pool, *KMEANS))]
    folder = pool.parent / "run/curated"
    parts = {path.name for path in folder.rglob("*.parquet")}
    (folder / "manifest.json").unlink()
    assert [(row.id, row.cluster) for row in decided(config(pool, *KMEANS))] == first
    assert {path.name for path in folder.rglob("*.parquet")} == parts


def test_a_way_that_was_not_asked_has_found_no_number(pool: Path) -> None:
    pool.write_text('{"instruction": "the same words again and again"}\n' * 3)
    settings = config(pool, "curate.near_duplicates=0.9")
    decided(settings)
    found = manifest(pool, "curated")["near_duplicates"]
    assert found == {"minhash": None, "both": None, "embedding": 2, "not_compared": 0}
    run = Run(settings)
    assert run.curation is not None
    assert "near-duplicates: 2 by embedding; MinHash was not asked (source.near_duplicates)" in run.curation.summary()


def test_copies_are_found_by_both_ways_whatever_the_length_of_their_ids(pool: Path) -> None:
    texts = [*["What is the best way to learn how to play the guitar at home"] * 2, "Name three rivers of Asia."]
    lines = [{"id": letter * 3000, "instruction": text} for letter, text in zip("xyz", texts, strict=True)]
    pool.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = decided(config(pool, "source.id_field=id", "source.near_duplicates=0.8", "curate.near_duplicates=0.9"))
    assert [row.dropped for row in rows] == [None, "near_duplicate", None]
    assert manifest(pool, "curated")["near_duplicates"]["both"] == 1


@pytest.mark.slow
def test_a_source_that_cannot_be_read_to_its_end_leaves_nothing_to_overwrite(pool: Path) -> None:
    settings = config(pool, *KMEANS)
    run = Run(settings)
    assert run.curation is not None
    assert run.curation.artifact.begin()
    pool.write_text("\n".join(pool.read_text().splitlines()[1:]) + "\n")
    with pytest.raises(SourceError, match="was changed while it was read"):
        run.curation.run()
    assert len(decided(settings)) == 119


@pytest.mark.slow
@pytest.mark.parametrize("sample", ["quota", "farthest_first"])
def test_a_sample_has_its_size_all_topics_and_follows_the_seed(pool: Path, sample: str) -> None:
    settings = [*KMEANS, f"curate.sample={sample}", "curate.sample_size=9"]
    chosen = {}
    for seed in (0, 0, 7):
        rows = decided(config(pool, *settings, f"seed={seed}", f"run_root={pool.parent}/{len(chosen)}-{seed}"))
        kept = [row for row in rows if row.dropped is None]
        assert len(kept) == 9
        assert {row.dropped for row in rows} == {None, "not_sampled"}
        if sample == "quota":
            assert Counter(map(topic, kept)) == dict.fromkeys(TOPICS, 3)
        else:
            assert set(map(topic, kept)) == set(TOPICS)
        assert chosen.setdefault(seed, [row.id for row in kept]) == [row.id for row in kept]
    assert chosen[0] != chosen[7]


def test_both_ways_to_find_near_duplicates_are_counted_and_other_scripts_are_not_compared(pool: Path) -> None:
    planted = [
        "What is the best way to learn how to play the guitar at home",
        "At home, what is the best way to learn how to play guitar?",  # by its words alone: other characters
        "What is the best way to learn how to play the guitar at home!",  # by both
        "Что такое любовь и почему люди её ищут всю жизнь",
        "Как приготовить борщ на зиму в стеклянных банках",  # another text, which the embedding cannot tell from the last
    ]
    pool.write_text("".join(json.dumps({"instruction": text}) + "\n" for text in planted))
    rows = decided(config(pool, "source.near_duplicates=0.8", "curate.near_duplicates=0.9"))
    assert [row.dropped for row in rows] == [None, "near_duplicate_by_meaning", "near_duplicate", None, None]
    assert rows[1].detail == rows[2].detail == rows[0].id
    found = manifest(pool, "curated")["near_duplicates"]
    assert found == {"minhash": 0, "both": 1, "embedding": 1, "not_compared": 2}


@pytest.mark.slow
def test_a_row_that_may_not_become_a_pair_hides_no_other(pool: Path) -> None:
    text = "What is the best way to learn how to play the guitar at home"
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": "Play."}, {"role": "user", "content": "So?"}]
    pool.write_text("".join(json.dumps({"instruction": words}) + "\n" for words in (turns, "", text)))
    rows = decided(config(pool, "curate.near_duplicates=0.5", "select.max_turns=1"))
    assert rows[0].dropped is None  # by curation: the pass itself drops it for its turns
    assert rows[1].dropped is not None
    assert rows[2].dropped is None
    facts = manifest(pool, "curated")
    assert (facts["rows"], facts["embedded"]) == (3, 1)


@pytest.mark.slow
def test_a_source_that_changed_under_its_curation_is_refused(pool: Path) -> None:
    settings = config(pool, *KMEANS)
    decided(settings)
    run = Run(settings)
    pool.write_text("\n".join(pool.read_text().splitlines()[1:]) + "\n")
    assert run.pairs is not None
    with pytest.raises(SourceError, match=r"was changed|other rows"):
        list(run.pairs.read_training())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("curate.clustering=kmeans", "curate.clusters=121"), "curate.clusters=121 clusters: there are 120 instructions"),
        ((*KMEANS, "curate.map=umap"), r"curate\.map=umap: umap-learn is not installed"),
        ((*KMEANS, "curate.embedding=org/none"), "curate.embedding=org/none: needs the package sentence-transformers"),
    ],
)
def test_bad_input_is_one_line_before_the_first_pass(
    pool: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...], words: str
) -> None:
    for name in ("umap", "sentence_transformers"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    settings = config(pool, *overrides)
    with pytest.raises(ConfigError, match=words):
        check_inputs(settings)
    assert [finding.subject for finding in diagnose_here(settings) if not finding.ok] == ["curate"]
    with pytest.raises(ConfigError, match=words):
        run_all(settings, [].append)
    assert not (pool.parent / "run/pairs").exists()


def test_rows_that_are_dropped_first_leave_fewer_than_the_clusters(pool: Path) -> None:
    pool.write_text('{"instruction": "the same words again and again"}\n' * 50)
    with pytest.raises(ConfigError, match=r"curate\.clusters=10 clusters: there are 1 instructions"):
        decided(config(pool, "curate.clustering=kmeans", "curate.clusters=10", "source.near_duplicates=0.9"))
    assert len(decided(config(pool, "curate.near_duplicates=0.9"))) == 50  # needs no --overwrite


@pytest.mark.parametrize(
    ("source", "values", "outcome"),
    [
        (None, {"dropped": "category"}, "not selected"),
        (None, {"dropped": "toxic", "category": None}, "not selected"),
        (None, {"dropped": "pair_identical"}, "no pair made"),
        (None, {"error": "no answer", "category": None}, "failed"),
        ("gsm8k", {"dropped": "no_right_answer", "category": None}, "no pair made"),
        (None, {"pair": {"method": "given"}}, "pair, not yet judged"),
    ],
)
def test_the_map_tells_a_row_without_a_pair_from_one_that_was_not_selected(
    source: str | None, values: dict[str, Any], outcome: str
) -> None:
    record = {"id": "1", "category": {"name": "Coding"}, "dropped": None, "error": None, "pair": None, **values}
    decision = Decision(id="1", position=0, source=source, x=0.0, y=0.0, text="a question")
    assert _point(decision, {}, {"1": record}, {}).classes[2] == outcome


@pytest.mark.slow
def test_the_report_has_the_map_the_clusters_and_thin_regions(pool: Path, here: Path) -> None:
    hostile = "Question 500: <script>alert(1)</script> \"quoted\" 'single' & </style><img src=x onerror=alert(2)> \u202e evil"
    with pool.open("a") as file:
        file.write(json.dumps({"instruction": hostile}) + "\n")
    run_all(config(pool, "curate.clustering=kmeans", "curate.clusters=4"), [].append)
    page = (pool.parent / "run/report.html").read_text()
    assert "Thin regions" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count('<circle class="p0-') == 121
    assert {"accepted", "category", "cluster", "outcome", "source"} <= set(page.replace("<", ">").split(">"))
    report = json.loads((pool.parent / "run/report.json").read_text())["diversity"]
    assert sum(cluster["rows"] for cluster in report["clusters"]) == 121
    assert sum(cluster["pairs"] for cluster in report["clusters"]) == manifest(pool, "pairs")["pairs"]
    assert [cluster["thin"] for cluster in report["clusters"]] == [False, False, False, True]


def test_a_run_that_curates_nothing_has_no_such_phase_or_key(pool: Path) -> None:
    run = Run(config(pool))
    assert run.curation is None
    assert "curated" not in [phase.name for phase in run.phases]
    assert run.pairs is not None
    assert not {"curated", "curate"} & run.pairs.artifact.key.keys()
    assert "per_cluster" not in run.pairs.artifact.key["select"]
