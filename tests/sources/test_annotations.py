"""Labels by several annotators: both forms, several files, and what is refused."""

import csv
import gzip
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stj.errors import ConfigError, SourceError
from stj.sources.annotations import PAIRS, Annotations, LabelSet, annotation_files, label_set, pair_rows, read_annotations

TEXTS = {"instruction": "2 + 2?", "response_a": "4", "response_b": "5"}


def written(file: Path, rows: Sequence[object]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def read(*locations: str, allowed: LabelSet = PAIRS, by: str | None = None) -> Annotations:
    return read_annotations(annotation_files(locations), allowed, by)


def labels(annotations: Annotations) -> list[dict[str, str]]:
    return [annotations.labels_of(pair) for pair in range(annotations.pairs)]


def refusal(tmp_path: Path, *rows: object, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        read(written(tmp_path / "rows.jsonl", rows), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_both_forms_say_the_same(tmp_path: Path) -> None:
    long = [
        {"id": 1, **TEXTS, "annotator": "anna", "label": "A"},
        {"id": 1, **TEXTS, "annotator": "bob", "label": "tie"},
        {"id": 2, "annotator": "anna", "label": "unsure"},
        {"id": 2, "annotator": "bob", "label": None},
    ]
    wide = [{"id": 1, "annotators": {"anna": "A", "bob": "tie"}}, {"id": 2, "annotators": {"anna": "unsure", "bob": None}}]
    columns = [{"id": 1, "annotator_anna": "A", "annotation_bob": "tie"}, {"id": 2, "annotator_anna": "unsure"}]
    expected = [{"anna": "A", "bob": "tie"}, {"anna": "unsure"}]
    for number, rows in enumerate((long, wide, columns)):
        assert labels(read(written(tmp_path / f"{number}.jsonl", rows))) == expected
    listed = written(tmp_path / "listed.jsonl", [{"annotators": ["A", None, "B"]}, {"annotators": []}])
    assert labels(read(listed)) == [{"1": "A", "3": "B"}, {}]


def test_every_format_says_the_same(tmp_path: Path) -> None:
    rows = [{"id": "1", "annotator_anna": "A", "annotator_bob": "b"}, {"id": "2", "annotator_anna": "", "annotator_bob": "tie"}]
    with (tmp_path / "rows.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    with gzip.open(tmp_path / "rows.jsonl.gz", "wt") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    members = [[("anna", "A"), ("bob", "B")], [("bob", "tie")]]
    maps = pa.array(members, type=pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.table({"id": ["1", "2"], "annotators": maps}), tmp_path / "maps.parquet")
    structs = [{"anna": "A", "bob": "B"}, {"anna": None, "bob": "tie"}]
    pq.write_table(pa.table({"id": ["1", "2"], "annotators": structs}), tmp_path / "structs.parquet")
    files = sorted(tmp_path.iterdir())
    assert len(files) == 5
    for file in files:
        assert labels(read(str(file))) == [{"anna": "A", "bob": "B"}, {"bob": "tie"}]


@pytest.mark.parametrize(
    ("spelled", "label"),
    [
        *((word, "A") for word in ("A", "a", " A ", "response_a", "model_a", "MODEL_A", 1, 1.0, "A>B")),
        *((word, "B") for word in ("B", "b", "model_2", "2", "b>a")),
        *((word, "tie") for word in ("tie", "Tie", "TIE (bothbad)", "A=B", "C")),
        *((word, "unsure") for word in ("unsure", " Unsure", "UNSURE")),
    ],
)
def test_a_label_has_several_spellings(spelled: object, label: str, tmp_path: Path) -> None:
    file = written(tmp_path / "rows.jsonl", [{"id": 1, "annotator": "anna", "label": spelled}])
    assert labels(read(file)) == [{"anna": label}]


@pytest.mark.parametrize("label", ["D", "both", "0", 0, 3, 1.5, True, ["A"], "  ", float("nan"), "Ä", "A" * 10_000])
def test_a_label_outside_the_set_is_one_line_with_its_place(label: object, tmp_path: Path) -> None:
    rows = [{"id": 1, "annotator": "anna", "label": "A"}, {"id": 2, "annotator": "anna", "label": label}]
    message = refusal(tmp_path, *rows)
    assert "rows.jsonl, line 2: field 'label' is " in message
    assert message.endswith("it must be A, B, tie or unsure (also response_a, model_a or 1 for A); labels=any takes any label")
    assert len(message) < 500


def test_each_annotator_s_own_file_and_a_directory_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    anna = written(folder / "anna.jsonl", [{"id": n, **TEXTS, "annotator": "anna", "label": "A"} for n in (1, 2)])
    bob = written(folder / "bob.jsonl", [{"id": n, **TEXTS, "annotator": "bob", "label": "B"} for n in (2, 3)])
    (folder / "notes.txt").write_text("no data")
    expected = [{"anna": "A"}, {"anna": "A", "bob": "B"}, {"bob": "B"}]
    assert labels(read(anna, bob)) == labels(read(str(folder))) == labels(read(str(folder), anna)) == expected
    assert read(str(folder), anna).replaced == 0  # a file that is named twice is read once


def test_a_later_label_replaces_an_earlier_one_and_is_counted(tmp_path: Path) -> None:
    rows = [{"id": 1, "annotator": "anna", "label": label} for label in ("A", "B", "unsure", None, "")]
    annotations = read(written(tmp_path / "rows.jsonl", [*rows, {"id": 1, "annotator": "bob", "label": "tie"}]))
    assert labels(annotations) == [{"anna": "unsure", "bob": "tie"}]
    assert annotations.replaced == 2


def test_without_an_id_the_texts_name_the_pair(tmp_path: Path) -> None:
    other = TEXTS | {"response_b": "22"}
    rows = [
        {**TEXTS, "annotator": "anna", "label": "A"},
        {**other, "annotator": "anna", "label": "B"},
        {**TEXTS, "annotator": "bob", "label": "B"},
    ]
    assert labels(read(written(tmp_path / "rows.jsonl", rows))) == [{"anna": "A", "bob": "B"}, {"anna": "B"}]


def test_an_id_is_unique_in_its_subset(tmp_path: Path) -> None:
    rows = [{"id": 1, "subset": name, "annotator": "anna", "label": "A"} for name in ("math", "code", None, "all")]
    assert read(written(tmp_path / "rows.jsonl", rows)).pairs == 3  # no subset is "all", as for other pairs


def test_groups_are_of_the_field_that_is_named(tmp_path: Path) -> None:
    row = {"annotators": {"anna": "A"}, "category": "x", "turn": 1}
    file = written(tmp_path / "rows.jsonl", [row | {"subset": "s"}, row, {"annotators": {}}])
    of: dict[str | None, list[str | None]] = {}
    for by in (None, "subset", "category", "turn"):
        annotations = read(file, by=by)
        of[by] = [None if place < 0 else annotations.groups[place] for place in annotations.group]
    assert of == {None: ["s", "x", None], "subset": ["s", None, None], "category": ["x", "x", None], "turn": ["1", "1", None]}
    with pytest.raises(SourceError, match=r"by=topic: no row of .* has this field; the fields of the first row are 'ann"):
        read(file, by="topic")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": 1, "annotator": "anna"}], "line 1: no field 'label'"),
        ([{"id": 1, "label": "A"}], "line 1: no labels: a row needs 'annotator' and 'label', or 'annotators', or columns"),
        ([{"annotator": "anna", "label": "A"}], "line 1: no field 'id', nor 'response_a' and 'response_b', says which pair"),
        ([{"id": 1, "annotator": ["anna"], "label": "A"}], "line 1: field 'annotator' is list ['anna']"),
        ([{"id": 1, "annotator": " ", "label": "A"}], "it must be the annotator's name, and not blank"),
        ([{"id": 1, "annotators": "anna: A"}], "it must be an object {name: label} or a list of labels"),
        ([{"id": 1, "annotators": {"anna": "D"}}], "line 1: field 'annotators.anna' is str 'D'; it must be A, B, tie"),
        ([{"id": 1, "annotators": ["A", "D"]}], "line 1: field 'annotators[1]' is str 'D'"),
        ([{"id": 1, "annotator": "x", "label": "A", "annotators": {}}], "both 'annotator' and 'annotators' name annotators"),
        ([{"id": 1, "annotators": {"x": "A", " x": "B"}}], "line 1: two labels by the annotator 'x', 'A' and 'B'; keep one"),
        ([{"id": 1, "annotator_x": "A", "annotation_x": "tie"}], "two labels by the annotator 'x', 'A' and 'tie'"),
        ([{"id": [1], "annotator": "x", "label": "A"}], "line 1: field 'id' is list [1]"),
        ([{"id": 1, "subset": 1.5, "annotator": "x", "label": "A"}], "line 1: field 'subset' is float 1.5"),
        ([{"id": 1, "response_a": "x", "annotator": "x", "label": "A"}], "line 1: no field 'response_b'"),
        ([{"chosen": "x", "rejected": "y", "annotator": "x", "label": "A"}], "'chosen' and 'rejected' tell which response"),
        (
            [
                {"id": 1, **TEXTS, "annotators": ["A"]},
                {"id": 1, **TEXTS, "response_a": "5", "response_b": "4", "annotators": []},
            ],
            "line 2: id '1' has other texts than in an earlier row; different pairs need different ids, and the responses",
        ),
        (
            [{"id": 1, "category": "x", "annotators": []}, {"id": 1, "category": "y", "annotators": []}],
            "line 2: id '1' is in the group 'y', but in 'x' in an earlier row; a pair has one group",
        ),
        ([], "rows.jsonl: holds no annotations; a row has annotator and label, or annotators"),
    ],
)
def test_a_bad_row_is_one_clear_line(rows: list[object], message: str, tmp_path: Path) -> None:
    assert message in refusal(tmp_path, *rows)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes('{"id": 1, "annotator": "Zoë", "label": "A"}\n'.encode("latin-1"))
    with pytest.raises(SourceError, match=r"latin.jsonl, line 1: not UTF-8 text .* convert the file to UTF-8"):
        read(str(tmp_path / "latin.jsonl"))
    with pytest.raises(SourceError, match=r"no such file or directory; .* has 'latin.jsonl'"):
        annotation_files([str(tmp_path / "latn.jsonl")])


def test_other_labels_are_any_or_a_list(tmp_path: Path) -> None:
    rows = [{"annotators": {"anna": label, "bob": "Unsure"}} for label in ("yes", " yes", "no", 1, 1.0, True, None)]
    file = written(tmp_path / "rows.jsonl", rows)
    annotations = read(file, allowed=label_set("any"))
    assert annotations.labels == ("1", "no", "true", "yes")
    assert labels(annotations)[3:] == [
        *[{"anna": "1", "bob": "unsure"}] * 2,
        {"anna": "true", "bob": "unsure"},
        {"bob": "unsure"},
    ]
    assert read(file, allowed=label_set("yes, no, 1, true")).labels == ("yes", "no", "1", "true")
    with pytest.raises(SourceError, match=r"line 3: field 'annotators.anna' is str 'no'; it must be one of 'yes', 'maybe'"):
        read(file, allowed=label_set("yes,maybe"))
    for words in ("yes", "yes,", "yes,unsure", ""):
        with pytest.raises(ConfigError, match=f"labels={words}: must be pair, any, or two or more labels"):
            label_set(words)


def test_text_that_is_taken_for_labels_is_refused(tmp_path: Path) -> None:
    rows = [{"annotators": {"anna": f"text {number}"}} for number in range(101)]
    assert "line 101: more than 100 different labels so far, the last of them 'text 100'" in refusal(
        tmp_path, *rows, allowed=label_set("any")
    )


def test_texts_come_from_the_first_row_that_has_them(tmp_path: Path) -> None:
    bare = {"id": 1, "annotator": "anna", "label": "A"}
    other = {"id": 2, **TEXTS, "annotator": "anna", "label": "A"}
    files = annotation_files([written(tmp_path / "a.jsonl", [bare, other, bare | TEXTS, bare | TEXTS | {"note": "late"}])])
    annotations = read_annotations(files)
    assert list(pair_rows(files, annotations)) == [(1, other), (0, bare | TEXTS)]
    assert annotations.with_texts == 2
    with (tmp_path / "a.jsonl").open("a") as stream:  # the labelling goes on
        stream.write(json.dumps(bare | {"id": 3}) + "\n")
    assert [pair for pair, _ in pair_rows(files, annotations)] == [1, 0]
    written(tmp_path / "a.jsonl", [bare])
    with pytest.raises(SourceError, match="changed while it was read; run the same command again"):
        list(pair_rows(files, annotations))


def test_votes_of_mt_bench_do_not_depend_on_the_order_of_the_models(tmp_path: Path) -> None:
    vote = {"question_id": 81, "turn": 1, "judge": "expert_1", "model_a": "alpaca", "model_b": "gpt-4", "winner": "model_b"}
    swapped = vote | {"judge": "expert_2", "model_a": "gpt-4", "model_b": "alpaca", "winner": "model_a"}
    tied = swapped | {"judge": "gpt4_pair", "winner": "tie (inconsistent)"}
    file = written(tmp_path / "votes.jsonl", [vote, swapped, tied, vote | {"turn": 2}])
    assert labels(read(file)) == [{"expert_1": "B", "expert_2": "B", "gpt4_pair": "tie"}, {"expert_1": "B"}]


def test_no_order_of_the_rows_changes_anything(tmp_path: Path) -> None:
    rows = [{"id": n % 5, "annotator": f"ann{n % 7}", "label": "AB"[n % 2]} for n in range(35)]
    forward, back = (read(written(tmp_path / f"{n}.jsonl", rows[::n])) for n in (1, -1))
    assert forward.annotators == back.annotators
    assert sorted(map(sorted, map(dict.items, labels(forward)))) == sorted(map(sorted, map(dict.items, labels(back))))


@pytest.mark.long
def test_memory_keeps_numbers_and_no_texts(tmp_path: Path) -> None:
    """A row is 2,000 bytes of text; memory keeps about 200 bytes of a pair and its three labels."""

    def peak(pairs: int) -> int:
        text = TEXTS | {"response_a": "x" * 2_000}
        rows = ({"id": n // 3, **text, "annotator": f"ann{n % 3}", "label": "A"} for n in range(3 * pairs))
        file = written(tmp_path / f"{pairs}.jsonl", list(rows))
        tracemalloc.start()
        assert len(read(file).label) == 3 * pairs
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)
    assert (peak(2_500) - peak(500)) / 2_000 < 600


def test_xstest_is_read_as_published(test_data: Path) -> None:
    """Two annotators of 450 responses; its own column says on how many they agree."""
    place = test_data / "xstest_gpt4" / "xstest_v2_completions_gpt4_gpteval.csv"
    annotations = read(str(place), allowed=label_set("any"), by="type")
    with place.open(newline="") as stream:
        agreed = [row["agreement"] == "True" for row in csv.DictReader(stream)]
    assert [len(set(given.values())) == 1 for given in labels(annotations)] == agreed
    assert (annotations.annotators, annotations.pairs, len(annotations.groups)) == (("1", "2"), 450, 18)


def test_mtbench_votes_are_read_as_published(test_data: Path) -> None:
    annotations = read(str(test_data / "mtbench_human_odd" / "human.jsonl"), by="turn")
    assert (annotations.groups, len(annotations.label), annotations.replaced) == (("1", "2"), 1687, 0)
