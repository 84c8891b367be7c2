"""`stj score FILE --benchmark grades`: any judge's recorded grades against labels."""

import contextlib
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from stj.cli import main
from stj.errors import ConfigError, SourceError
from stj.evals.benchmarks.refs import benchmark_ref
from stj.evals.score import score_file
from stj.text import Table

GRADES = benchmark_ref("grades")
LABELS = (1, 2, 3, 4, 5, 5, 4, 3, 2, 1)
SCORES = (1, 2, 2, 4, 5, 4, 4, 3, 1, 1)
ROWS = [{"id": f"r{n}", "score": s, "label": t} for n, (s, t) in enumerate(zip(SCORES, LABELS, strict=True))]


def written(file: Path, rows: Sequence[object]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def scored(file: Path, rows: Sequence[object], **options: Any) -> dict[str, Any]:
    record, items = score_file(written(file, rows), GRADES, options.pop("parser", None), **options)
    json.dumps(record, allow_nan=False)
    for item in items:
        assert all(len(line) <= 80 for line in str(item).splitlines()) or not isinstance(item, Table)
    return record


def texts(form: str, scores: Sequence[object] = SCORES) -> list[dict[str, Any]]:
    return [{"id": n, "text": form.format(s), "label": t} for n, (s, t) in enumerate(zip(scores, LABELS, strict=False))]


def vicuna(folder: Path) -> list[dict[str, Any]]:
    """GPT-4's first run as the score, and the mean of the other two as the label."""
    rows = json.loads((folder / "prometheus_vicuna" / "vicuna_eval.json").read_text())
    return [
        {
            "id": f"{row['idx']}/{row['response_source']}",
            "score": row["gpt4_score"][0],
            "label": sum(row["gpt4_score"][1:]) / 2,
            "subset": row["category"],
            "feedback": row["gpt4_feedback"][0],
        }
        for row in rows
    ]


def test_gpt4_against_itself_on_prometheus_vicuna_set(test_data: Path, tmp_path: Path) -> None:
    overall = scored(tmp_path / "grades.jsonl", vicuna(test_data))["groups"]["overall"]
    assert overall["rows"] == 320
    assert overall["pearson"] == pytest.approx(0.840041, abs=1e-6)
    assert overall["spearman"] == pytest.approx(0.741613, abs=1e-6)
    assert overall["kendall"] == pytest.approx(0.693692, abs=1e-6)
    assert all(low < overall[name] < high for name, (low, high) in overall["ci95"].items())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("style", "form"),
    [
        ("prometheus", "{} [RESULT] {}"),
        ("flow", "<feedback>{}</feedback>\n<score>{}</score>"),
        ("fastchat", "{} Rating: [[{}]]"),
        ("line", "{}\n\n**Score**: {}/5"),
    ],
)
def test_real_feedback_with_a_grade_in_every_style(style: str, form: str, test_data: Path, tmp_path: Path) -> None:
    rows = vicuna(test_data)
    recorded = [{"id": row["id"], "label": row["label"], "text": form.format(row["feedback"], row["score"])} for row in rows]
    record = scored(tmp_path / "grades.jsonl", recorded)
    assert (record["format"], record["format_guessed"], record["scale"], record["parser"]) == (style, True, "1-5", "distinct")
    assert record["groups"]["overall"]["pearson"] == pytest.approx(0.840041, abs=1e-6)
    assert record["groups"] == record["strict"]["groups"] == record["distinct"]["groups"]


def test_fastchats_grades_of_single_answers_against_their_stored_scores(test_data: Path, tmp_path: Path) -> None:
    file = test_data / "fastchat_gpt4_single" / "gpt-4_single.jsonl"
    graded = [json.loads(line) for line in file.read_text().splitlines()]
    rows = [{"score": row["score"], "text": row["judgment"], "label": row["score"]} for row in graded]
    record = scored(tmp_path / "grades.jsonl", rows, format_name="fastchat")
    assert (record["as_stored"], record["as_stored_rows"]) == (1.0, 160)
    assert record["groups"]["overall"]["exact"] == 1
    assert record["groups"]["overall"]["undefined"]["ci95.pearson"] == "all resamples give 1"


def test_figures_stand_at_the_top_for_scores_and_by_parser_for_texts(tmp_path: Path) -> None:
    stored = scored(tmp_path / "scores.jsonl", ROWS)
    assert stored["groups"]["overall"]["pearson"] == pytest.approx(stats.pearsonr(SCORES, LABELS).statistic)
    assert (stored["parser"], stored["format"], "distinct" in stored) == (None, None, False)
    read = scored(tmp_path / "texts.jsonl", texts("Short. [RESULT] {}"))
    assert read["groups"] == read["distinct"]["groups"] == read["paper"]["groups"] == stored["groups"]
    late = scored(tmp_path / "late.jsonl", texts("[RESULT] {} because it is short"))
    assert "groups" not in late["strict"]
    assert "10 of 10 grades cannot be read" in late["strict"]["error"]
    assert late["groups"] == stored["groups"]
    only = scored(tmp_path / "late.jsonl", texts("[RESULT] {} because it is short"), parser="paper")
    assert (only["parser"], "distinct" in only) == ("paper", False)


def test_each_rubric_and_subset_is_a_group(tmp_path: Path) -> None:
    rows = [row | {"rubric": "overall", "subset": "easy" if n < 5 else "hard"} for n, row in enumerate(ROWS)]
    groups = scored(tmp_path / "grades.jsonl", rows)["groups"]
    assert list(groups) == ["overall", "rubric/overall", "subset/easy", "subset/hard"]
    assert groups["rubric/overall"] == groups["overall"]
    assert groups["subset/easy"]["pearson"] == pytest.approx(stats.pearsonr(SCORES[:5], LABELS[:5]).statistic)
    assert groups["subset/easy"]["undefined"]["ci95.pearson"] == "fewer than 10 rows"


def test_what_needs_no_judge_stands_beside(tmp_path: Path) -> None:
    rows = [row | {"response": "x" * (10 * LABELS[n])} for n, row in enumerate(ROWS)]
    beside = scored(tmp_path / "grades.jsonl", rows)["groups"]["overall"]["baselines"]
    assert beside["length"]["spearman"] == pytest.approx(1)
    assert beside["length"]["mean_absolute_error"] is None
    assert (beside["majority"]["score"], beside["majority"]["exact"]) == (1, 0.2)
    assert (beside["mean"]["score"], beside["mean"]["mean_absolute_error"]) == (3, pytest.approx(1.2))
    assert beside["mean"]["pearson"] is None
    without = scored(tmp_path / "grades.jsonl", ROWS)["groups"]["overall"]["baselines"]["length"]
    assert (without["rows"], without["pearson"]) == (0, None)


def test_every_row_that_is_not_scored_has_a_counted_reason(tmp_path: Path) -> None:
    unread = [{"text": "No idea. [RESULT] 4 or 5", "label": 4}, {"text": "[RESULT] 7", "label": 4}, {"text": "", "label": 1}]
    others = [{"score": None, "label": 3}, {"text": None, "label": 3}, {"text": "[RESULT] 3", "label": None}, {"score": 3}]
    record = scored(tmp_path / "grades.jsonl", [*texts("[RESULT] {}"), *unread, *others], format_name="prometheus")
    assert (record["judged"], record["unjudged"]) == (10, 7)
    assert record["unjudged_by_reason"] == {"no label": 2, "not asked": 2, "unparsed": 3}
    assert record["groups"]["overall"]["rows"] == 10
    assert record["warning"].startswith("distinct: 3 of 13 grades cannot be read in the format prometheus on the scale 1-5")


def test_a_score_off_a_given_scale_is_counted_and_one_off_a_guessed_scale_is_noted(tmp_path: Path) -> None:
    rows = [*ROWS, {"id": "x", "score": 9, "label": 3}]
    guessed = scored(tmp_path / "grades.jsonl", rows)
    assert (guessed["judged"], guessed["off_scale"], guessed["scale"], guessed["scale_guessed"]) == (11, 1, "1-5", True)
    given = scored(tmp_path / "grades.jsonl", rows, scale="1-5")
    assert (given["judged"], given["off_scale"], given["unjudged_by_reason"]) == (10, 0, {"off the scale": 1})
    _, items = score_file(str(tmp_path / "grades.jsonl"), GRADES, None)
    assert "scores off this scale: 1, which count; with --scale 1-5 they do not" in items


def test_a_score_stands_and_its_text_is_compared(tmp_path: Path) -> None:
    rows = [row | {"text": f"[RESULT] {4 if n == 0 else row['score']}"} for n, row in enumerate(ROWS)]
    record = scored(tmp_path / "grades.jsonl", rows)
    assert (record["as_stored"], record["as_stored_rows"]) == (0.9, 10)
    assert record["groups"] == scored(tmp_path / "scores.jsonl", ROWS)["groups"]
    feedback = scored(tmp_path / "grades.jsonl", [row | {"text": "It is short."} for row in ROWS])
    assert (feedback["format"], feedback["as_stored"], feedback["judged"]) == (None, None, 10)


def test_a_format_is_guessed_if_most_texts_are_in_it_and_no_other_reads_them_otherwise(tmp_path: Path) -> None:
    unread = {"text": "No idea.", "label": 3}
    record = scored(tmp_path / "grades.jsonl", [*texts("Score: {}/5"), *[unread] * 3])
    assert (record["format"], record["format_guessed"], record["unjudged_by_reason"]) == ("line", True, {"unparsed": 3})
    assert record["warning"].startswith("distinct: 3 of 13 grades cannot be read in the format line on the scale 1-5")
    with pytest.raises(SourceError, match="no format of grades alone fits more than half of 10 texts"):
        scored(tmp_path / "grades.jsonl", texts("It shows [[1]]. [RESULT] {}"))


def test_rows_may_have_scales_of_their_own(tmp_path: Path) -> None:
    binary = [{"text": f"<score>{n % 2}</score>", "label": n % 2, "scale": "0-1", "rubric": "ok"} for n in range(6)]
    points = [{**row, "scale": "1-5", "rubric": "good"} for row in texts("<score>{}</score>")]
    record = scored(tmp_path / "grades.jsonl", [*binary, *points, {"text": "<score>3</score>", "label": 1, "scale": "0-1"}])
    assert record["unjudged_by_reason"] == {"unparsed": 1}
    assert record["groups"]["rubric/ok"]["exact"] == 1
    assert record["scale"] is None


@pytest.mark.parametrize("judged", ["score", "text"])
def test_published_records_need_only_what_the_judge_said(judged: str, tmp_path: Path) -> None:
    published = [
        {
            **{"orig_instruction": "q", "orig_response": "r" * t, "orig_criteria": "Right?", "orig_score": str(t)},
            **{f"orig_score{point}_description": "x" for point in range(1, 6)},
            **{"output": f"[RESULT] {t}", judged: s if judged == "score" else f"[RESULT] {s}"},
        }
        for s, t in zip(SCORES, LABELS, strict=True)
    ]
    record = scored(tmp_path / "grades.jsonl", published)
    assert record["groups"]["overall"]["pearson"] == pytest.approx(stats.pearsonr(SCORES, LABELS).statistic)
    assert list(record["groups"]) == ["overall", "rubric/Right?"]
    assert record["groups"]["overall"]["baselines"]["length"]["pearson"] == pytest.approx(1)


def test_the_score_of_flow_judges_records_is_the_label(tmp_path: Path) -> None:
    rubric = [{"score": point, "description": "x"} for point in (0, 1)]
    published = [
        {
            **{"inputs": [], "output": {"name": "response", "content": "r"}, "criteria": "Right?", "rubric": rubric},
            **{"id": str(n), "score": n % 2, "text": f"<feedback>f</feedback><score>{int(n > 4)}</score>"},
        }
        for n in range(10)
    ]
    record = scored(tmp_path / "grades.jsonl", published)
    assert (record["format"], record["as_stored"], record["judged"]) == ("flow", None, 10)
    assert record["groups"]["overall"]["exact"] == 0.6


def test_votes_and_errors_say_why_there_is_no_score(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [row | {"rubric": "style", "votes": [{"score": row["score"], "text": "x"}]} for row in ROWS]
    lines += [{"id": "u", "label": 3, "rubric": "style", "score": None, "error": None, "votes": [{"score": None, "text": "x"}]}]
    lines += [{"id": "f", "label": 3, "rubric": "style", "score": None, "error": "too long", "votes": []}]
    record = scored(tmp_path / "grades.jsonl", lines)
    assert (record["judged"], record["unjudged_by_reason"]) == (10, {"failed": 1, "unparsed": 1})
    assert record["warning"] == "1 of 11 grades are votes without a score"


@pytest.mark.slow
def test_a_real_published_set_with_a_judges_scores(test_data: Path, tmp_path: Path) -> None:
    rows = json.loads((test_data / "prometheus_vicuna" / "vicuna_eval.json").read_text())
    record = scored(tmp_path / "grades.jsonl", [row | {"score": row["gpt4_score"][0]} for row in rows])
    labels = [sum(row["gpt4_score"]) / 3 for row in rows]
    expected = stats.pearsonr([row["gpt4_score"][0] for row in rows], labels).statistic
    assert record["groups"]["overall"]["pearson"] == pytest.approx(expected, abs=1e-9)
    assert record["groups"]["subset/writing"]["rows"] == 40
    own = [row | {"score": row["gpt4_score"][0], "label": sum(row["gpt4_score"][1:]) / 2} for row in rows]
    assert scored(tmp_path / "grades.jsonl", own)["groups"]["overall"]["pearson"] == pytest.approx(0.840041, abs=1e-6)


def test_csv_and_json_are_read_like_jsonl(tmp_path: Path) -> None:
    table, listed = tmp_path / "grades.csv", tmp_path / "grades.json"
    table.write_text("id,score,label\n" + "".join(f"{r['id']},{r['score']},{r['label']}\n" for r in ROWS) + "last,,3\n")
    listed.write_text(json.dumps([*ROWS, {"id": "last", "score": None, "label": "3"}]))
    from_csv, from_json = (score_file(str(file), GRADES, None)[0] | {"file": ""} for file in (table, listed))
    assert from_csv == from_json
    assert from_csv["unjudged_by_reason"] == {"not asked": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"score": 4, "label": "good"}, "line 11: field 'label' is str 'good'; it must be a number; for several grades give"),
        ({"score": 4, "label": [4, 5]}, "field 'label' is list [4, 5]"),
        (
            {"score": [4, 5], "label": 4},
            "field 'score' is list [4, 5]; it must be a number, or null if the grade was not asked",
        ),
        ({"score": True, "label": 4}, "field 'score' is bool True"),
        ({"score": math.nan, "label": 4}, "field 'score' is float nan"),
        ({"score": 4, "label": math.inf}, "field 'label' is float inf"),
        ({"score": "4/5", "label": 4}, "field 'score' is str '4/5'"),
        ({"score": 1e300, "label": 4}, "from -1,000,000 to 1,000,000"),
        ({"id": "r3", "score": 4, "label": 4}, "field 'id' is 'r3', which an earlier row has too"),
        ({"id": "", "score": 4, "label": 4}, "field 'id' is str ''"),
        ({"text": ["[RESULT] 4"], "label": 4}, "field 'text' is list"),
        ({"score": 4, "label": 4, "rubric": ["x"]}, "field 'rubric' is list"),
        ({"score": 4, "label": 4, "rubric": {}}, "field 'rubric.name' is NoneType"),
        ({"score": 4, "label": 4, "scale": "five"}, "field 'scale' is str 'five'; it must be a scale of whole numbers"),
        ({"score": 4, "label": 7, "scale": "1-5"}, "field 'label' is 7, which is off the scale 1-5"),
    ],
)
def test_a_row_that_is_no_grade_is_one_line(
    row: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "grades.jsonl", [*ROWS, row])
    assert main(["score", file, "--benchmark", "grades"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert "line 11" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "command", "message"),
    [
        (
            [{"score": 4, "lable": 4}],
            [],
            "no row has a label: give the true grade as 'label'; the fields there are 'score', 'lable'",
        ),
        ([{"label": 4, "grade": 4}], [], "no row has a grade: give it as 'score', or the judge's text as 'text'"),
        (
            [{"label": 4, "score": None}, {"label": None, "score": 4}],
            [],
            "no row has both a grade and a label (no label 1, not asked 1)",
        ),
        (
            [{"label": 4, "text": "fine"}],
            [],
            'no format of grades (prometheus, flow, fastchat, selene, line, json, number) fits any text; one ends with "fine"',
        ),
        (
            [*texts("[RESULT] {}"), *({**row, "id": f"x{row['id']}"} for row in texts("<score>{}</score>"))],
            [],
            "no format of grades alone fits more than half of 20 texts; prometheus fits most, 10: give --format prometheus",
        ),
        (
            texts("[RESULT] {}"),
            ["--format", "flow"],
            "10 of 10 grades cannot be read in the format flow on the scale 1-5; 10 have one in the format prometheus",
        ),
        (texts("[RESULT] {}"), ["--format", "promteheus"], "is no format of grades (did you mean 'prometheus'?)"),
        (ROWS, ["--format", "flow"], "no row of"),
        (ROWS, ["--scale", "5"], "--scale 5: is no scale; give two whole numbers"),
        (ROWS, ["--scale", "1-3"], "line 4: field 'label' is 4, which is off the scale 1-3"),
        ([{"label": 1, "score": n} for n in (7, 8, 1)], ["--scale", "1-5"], "2 of 3 grades are off the scale"),
        ([{"label": -3, "text": "[RESULT] 1"}], [], "labels go from -3 to -3: no usual scale; give --scale"),
        ([{"judge": "a", **ROWS[0]}, {"judge": "b", **ROWS[1]}], [], "the judgments of several judges are not pooled"),
        ([], [], "holds no grades"),
    ],
)
def test_a_file_that_cannot_be_scored_is_one_line(
    rows: list[Any], command: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "grades.jsonl", rows)
    assert main(["score", file, "--benchmark", "grades", *command]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_only_this_benchmark_takes_a_scale_and_it_takes_no_place(tmp_path: Path) -> None:
    file = written(tmp_path / "grades.jsonl", ROWS)
    with pytest.raises(ConfigError, match="--scale 1-5: only --benchmark grades takes a scale"):
        score_file(file, benchmark_ref("pairs"), None, scale="1-5")
    with pytest.raises(ConfigError, match="FILE itself holds what is right"):
        score_file(file, benchmark_ref(f"grades:{file}"), None)
    with pytest.raises(SourceError, match="are scored by `stj score FILE --benchmark grades`"):
        list(benchmark_ref(f"grades:{file}").rows(None))


def test_the_table_says_what_each_figure_rests_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*ROWS, {"id": "half", "score": 4, "label": 4.5, "subset": "s" * 70}, {"id": "none", "score": None, "label": 4}]
    assert main(["score", written(tmp_path / "grades.jsonl", rows), "--benchmark", "grades"]) == 0
    out = capsys.readouterr().out
    assert "unjudged: 1 (not asked 1)" in out
    rests_on = {line.split("  ")[0]: line[20:].split()[0] for line in out.splitlines() if line.startswith(("Pear", "exact"))}
    assert rests_on == {"Pearson": "11", "exact, %": "10"}
    assert max(map(len, out.splitlines())) <= 80


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 12)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["4", "1-5", 10**400]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
FIELDS = st.sampled_from(
    ["id", "score", "label", "text", "rubric", "subset", "scale", "response", "judge", "votes", "error", "orig_score"]
)
TEXTS = st.sampled_from(["[RESULT] 4", "<score>3</score>", "[[4]]", "Score: 4/5", '{"score": 4}', "fine", ""])


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(
        st.dictionaries(FIELDS, VALUES, max_size=4) | st.fixed_dictionaries({"label": st.integers(1, 5), "text": TEXTS}),
        max_size=8,
    ),
    style=st.sampled_from([None, "flow", "line"]),
    scale=st.sampled_from([None, "1-5"]),
)
def test_any_rows_are_scored_or_refused_in_words(rows: list[Any], style: str | None, scale: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(SourceError, ConfigError):
        record = scored(Path(folder) / "grades.jsonl", [*ROWS[:3], *rows], format_name=style, scale=scale)
        assert record["judged"] + record["unjudged"] == 3 + len(rows)
        assert record["judged"] == record["groups"]["overall"]["rows"]
