"""The reader of rubrics: a good file reads back the same in every encoding, and each fault is one line with file and line."""

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from stj.errors import ConfigError
from stj.rubrics import INPUTS, SCALES, Rubric, library, rubric, rubric_of

DEEP = r": (nested too deeply|not YAML: )"
"""Which of the two depends on how deep Python's stack may be, which hypothesis changes while its tests run."""
GOOD = """\
criterion: Is it right?
scale: 1-3
inputs: [instruction, reference, response]
points:
  1: It is wrong.
  2: A part is wrong.
  3: It is right.
"""
AWKWARD = [
    *(
        "yes",
        "no",
        "1.0",
        "010",
        "~",
        "null",
        "5",
        "true",
        "1e3",
        "- a",
        "a: b",
        "# a",
        "'",
        '"',
        "{a",
        "[a]",
        "*a",
        "&a",
        "!a",
    ),
    *(
        "%a",
        "@a",
        "`a",
        "|",
        ">",
        "?",
        "<<",
        "=",
        "a #b",
        "a\\b",
        "a/b",
        "\\u0041",
        "{instruction}",
        "[[A]]",
        "<|im_end|>",
        "$",
    ),
    *(
        "C'est juste ?",
        "回答是否正确？",
        "هل الإجابة صحيحة؟",
        "\u202bהאם זה נכון?\u202c",
        "👩\u200d👩\u200d👧 ok 🇩🇪",
        "e\u0301",
        "𝒳",
    ),
    *(
        "a\tb",
        "a\nb",
        "a\r\nb",
        "a\n\n  b\n c",
        "a\u2028b",
        "a \u2028 b",
        "a\u2029b",
        "a\x85b",
        "a\x7fb",
        "a\ufeffb",
        "a\uffffb",
        "a\x1bb",
    ),
]


def without_faults(text: str) -> bool:
    return "${" not in text and any(sign.isprintable() and not sign.isspace() for sign in text)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60)
GOOD_TEXTS = (st.sampled_from(AWKWARD) | TEXTS).map(str.strip).filter(without_faults)


@st.composite
def rubrics(draw: st.DrawFn) -> Rubric:
    scale = draw(st.sampled_from(list(SCALES)))
    size = len(SCALES[scale])
    others = draw(st.sets(st.sampled_from(INPUTS)))
    return Rubric(
        name=draw(GOOD_TEXTS.filter(lambda name: len(name.splitlines()) == 1)),
        criterion=draw(GOOD_TEXTS),
        scale=scale,
        descriptions=tuple(draw(st.lists(GOOD_TEXTS, min_size=size, max_size=size))),
        inputs=tuple(name for name in INPUTS if name in {*others, "response"}),
    )


def as_values(value: Rubric, point: Callable[[int], Any] = str) -> dict[str, Any]:
    """The keys of a rubric's file."""
    points = {point(number): text for number, text in zip(value.points, value.descriptions, strict=True)}
    values = {name: item for name, item in asdict(value).items() if name != "descriptions"}
    return values | {"inputs": list(value.inputs), "points": points}


def read(content: str | bytes, name: str = "mine.yaml") -> Rubric:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return rubric(str(file), "rubric")


def fault_of(content: str | bytes, name: str = "mine.yaml") -> str:
    """The error for a file, from the file's name without its folder; fails if it is more than one line."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(ConfigError) as caught:
            rubric(str(file), "rubric")
    message = str(caught.value)
    assert message.startswith(f"{file}")
    assert len(message.splitlines()) == 1
    return message.removeprefix(f"{folder}/")


def outcome(reading: Callable[[], Rubric]) -> Rubric | str:
    """What a reading gives: a rubric, or the line that says why not."""
    try:
        return reading()
    except ConfigError as error:
        return str(error)


def changed(**changes: Any) -> str:
    """The good rubric as JSON with other values; a key whose value is ... is left out."""
    values = yaml.safe_load(GOOD) | changes
    return json.dumps({key: value for key, value in values.items() if value is not ...})


@pytest.mark.slow
@given(value=rubrics(), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), wide=st.booleans())
def test_a_rubric_written_as_yaml_reads_back_the_same(value: Rubric, encoding: str, wide: bool) -> None:
    text = yaml.safe_dump(as_values(value, int), allow_unicode=wide, sort_keys=False)
    assume(yaml.safe_load(text) == as_values(value, int))  # PyYAML writes U+0085 as it is, and reads a line break there.
    assert read(text.encode(encoding)) == value


@pytest.mark.slow
@given(
    value=rubrics(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    wide=st.booleans(),
    indent=st.sampled_from([None, 2, "\t"]),
    name=st.sampled_from(["mine.json", "mine.yaml", "mine"]),
)
def test_a_rubric_written_as_json_reads_back_the_same(value: Rubric, encoding: str, wide: bool, indent: Any, name: str) -> None:
    text = json.dumps(as_values(value), ensure_ascii=not wide, indent=indent)
    assert read(text.encode(encoding), name) == value


@pytest.mark.slow
@given(rubrics())
def test_a_packed_rubric_and_its_mapping_read_back_the_same(value: Rubric) -> None:
    assert rubric(value.packed, "rubric") == rubric(json.loads(json.dumps(value.packed)), "rubric") == value
    assert rubric_of(as_values(value), "body") == rubric_of(as_values(value, int), "body") == value


@given(rubrics())
def test_a_digest_is_of_all_but_the_name(value: Rubric) -> None:
    assert replace(value, name="other").digest == value.digest
    others = [
        replace(value, criterion=f"{value.criterion}!"),
        replace(value, descriptions=(*value.descriptions[:-1], f"{value.descriptions[-1]}!")),
        replace(value, inputs=("context", "response") if "context" not in value.inputs else ("response",)),
    ]
    assert value.digest not in {other.digest for other in others}


@pytest.mark.slow
@given(st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_one_line_and_never_a_rubric(content: bytes) -> None:
    fault_of(content)


EDITS = st.sampled_from(
    [*"\t\r\n'\"{}[]|#~.\0", ": ", "- ", "&a ", "*a", "<<: ", "? ", "!!int ", "---\n", "\u2028", "${a}", "points."]
)


@pytest.mark.slow
@given(st.sampled_from([GOOD, json.dumps(yaml.safe_load(GOOD), indent="\t")]), st.data())
def test_an_edited_file_is_a_whole_rubric_or_one_line(content: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        content = content[:start] + data.draw(EDITS | st.just("")) + content[start + data.draw(st.integers(0, 20)) :]
    value = outcome(lambda: read(content))
    if isinstance(value, Rubric):
        assert rubric(value.packed, "rubric") == value
        assert all(value.descriptions)
    else:
        assert re.match(r"\S*/mine\.yaml[:,] ", value)
        assert len(value.splitlines()) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.sampled_from("0123"), inner, max_size=4)
    ),
    max_leaves=6,
)


@pytest.mark.slow
@given(key=st.sampled_from(["name", "criterion", "scale", "inputs", "points", "other"]), value=JSON)
def test_any_value_is_read_as_it_stands_or_is_one_line(key: str, value: Any) -> None:
    """In a body of HTTP, in a file, and in a packed rubric."""
    values = yaml.safe_load(GOOD) | {"name": "x", key: value}
    good = outcome(lambda: rubric_of(values, "body", "mine"))
    if isinstance(good, Rubric):
        assert key != "other"
        assert read(json.dumps(values)) == good
    else:
        assert good.startswith("body: ")
        assert len(good.splitlines()) == 1


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_text_is_read_as_it_is_written(text: str) -> None:
    for wide in (True, False):
        content = json.dumps(yaml.safe_load(GOOD) | {"criterion": text, "points": {1: text, 2: "b", 3: "c"}}, ensure_ascii=wide)
        value = read(content)
        assert (value.criterion, value.descriptions[0]) == (text, text)


def test_a_description_may_look_like_something_else() -> None:
    """YAML 1.1 would read false, 8, a number and a date."""
    for text in ("No", "010", "1e3", "2024-05-01", "7"):
        assert read(GOOD.replace("A part is wrong.", text)).descriptions[1] == text


def test_very_long_text_is_read() -> None:
    text = "so und so, 漢字 " * 20_000
    assert read(GOOD.replace("It is wrong.", text)).descriptions[0] == text.strip()


def test_lines_may_end_as_on_windows() -> None:
    assert read(GOOD.replace("\n", "\r\n")) == read(GOOD)
    folded = GOOD.replace("It is wrong.", "|\n    It is wrong,\n    and long.")
    assert read(folded.replace("\n", "\r\n")) == read(folded)


def test_points_may_be_flat_and_in_any_order() -> None:
    flat = GOOD.partition("points:")[0] + "points.3: It is right.\npoints.1: It is wrong.\npoints.2: A part is wrong.\n"
    assert read(flat) == read(GOOD)


def test_inputs_are_instruction_and_response_unless_they_are_given() -> None:
    assert read(GOOD.replace("inputs: [instruction, reference, response]\n", "")).inputs == ("instruction", "response")
    assert read(changed(inputs=["response", "context"])).inputs == ("context", "response")


def test_a_rubric_without_a_name_has_that_of_its_file() -> None:
    assert read(GOOD, "my rubric.v2.yaml").name == "my rubric.v2"
    assert read(f"name: ours\n{GOOD}").name == "ours"
    assert read(changed(name=None), "a.json").name == "a"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (GOOD.replace("  2: A part is wrong.\n", ""), r", line 5: points has no description of 2: describe each point"),
        (GOOD.replace("A part is wrong.", ""), r", line 6: no points\.2: describe each point of the scale 1-3"),
        (GOOD.replace("A part is wrong.", "~"), r", line 6: no points\.2"),
        (GOOD.replace("A part is wrong.", '" \\u200f "'), r", line 6: no points\.2"),
        (GOOD.replace("A part is wrong.", "[a, b]"), r", line 6: points\.2 is \['a', 'b'\], not text"),
        (GOOD.replace("A part is wrong.", "{a: b}"), r", line 6: points\.2 is \{'a': 'b'\}, not text"),
        (GOOD.replace("A part is wrong.", '"a\\0"'), r", line 6: holds the character U\+0000"),
        (GOOD.replace("A part is wrong.", "a ${b}"), r", line 6: points\.2 holds the characters \$\{"),
        (f"{GOOD}  4: It is more.\n", r", line 8: points describes '4', which is no point of the scale 1-3"),
        (f"{GOOD}  0: It is less.\n", r", line 8: points describes '0', which is no point"),
        (f"{GOOD}  1.5: It is less.\n", r", line 8: points describes '1\.5', which is no point"),
        (f"{GOOD}  -1: It is less.\n", r", line 8: points describes '-1', which is no point"),
        (f"{GOOD}  '1 ': Again.\n", r", line 8: points describes '1 ', which is no point"),
        (GOOD.replace("1: It", "1.0: It"), r", line 5: points describes '1\.0', which is no point"),
        (GOOD.replace("1: It", "yes: It"), r", line 5: points describes 'yes', which is no point"),
        (GOOD.replace("1: It", "no: It"), r", line 5: points describes 'no', which is no point"),
        (GOOD.replace("1: It", "01: It"), r", line 5: points describes '01', which is no point"),
        (GOOD.replace("1: It", "? [1]\n  : It"), r", line 5: a key that is not text"),
        (f"{GOOD}  2: Again.\n", r", line 8: points\.2 is set twice; the other is .*mine\.yaml, line 6: points\.2"),
        (f"{GOOD}points.2: Again.\n", r", line 8: points\.2 is set twice; the other is .*, line 6"),
        (f"{GOOD}criterion: Again?\n", r", line 8: criterion is set twice; the other is .*, line 1"),
        (f"{GOOD}points: {{}}\n", r", line 8: points is set twice"),
        (f"{GOOD}weight: 2\n", r", line 8: unknown key 'weight'; a rubric has name, criterion, scale, inputs, points"),
        (f"{GOOD}weight: {{a: 2}}\n", r", line 8: unknown key 'weight'"),
        (GOOD.replace("criterion: Is it right?\n", ""), r": no criterion: ask one question about the response"),
        (GOOD.replace("Is it right?", ""), r", line 1: no criterion"),
        (GOOD.replace("Is it right?", "'  '"), r", line 1: no criterion"),
        (GOOD.replace("Is it right?", "[a]"), r", line 1: criterion is \['a'\], not text"),
        (GOOD.replace("Is it right?", "Is it: right?"), r": not YAML: mapping values are not allowed here"),
        (GOOD.replace("scale: 1-3\n", ""), r": no scale: give the scale of the rubric"),
        (GOOD.replace("1-3", "1-7"), r", line 2: scale is '1-7'; it must be one of binary, 1-3, 1-5, 1-10"),
        (GOOD.replace("1-3", "1–3"), r", line 2: scale is '1–3'; it must be one of"),
        (GOOD.replace("1-3", "1-5"), r", line 5: points has no description of 4"),
        (GOOD.replace("1-3", "binary"), r", line 6: points describes '2', which is no point of the scale binary"),
        (
            GOOD.replace("reference", "answer"),
            r", line 3: inputs is \['instruction', 'answer', 'response'\]; it must be a list of",
        ),
        (GOOD.replace("[instruction, reference, response]", "response"), r", line 3: inputs is 'response'; it must be a list"),
        (GOOD.replace("[instruction, reference, response]", ""), r", line 3: inputs is None; it must be a list"),
        (GOOD.replace("[instruction, reference, response]", "[[response]]"), r", line 3: a list of texts holds a list"),
        (GOOD.replace(", response]", "]"), r", line 3: inputs lacks response, which is what is graded"),
        (
            GOOD.partition("points:")[0],
            r": no points: describe each point of the scale 1-3, as in points: \{1: \.\.\., 2: \.\.\.\}",
        ),
        (f"{GOOD.partition('points:')[0]}points:\n", r", line 4: no points"),
        (f"{GOOD.partition('points:')[0]}points: {{}}\n", r", line 4: no points"),
        (f"{GOOD.partition('points:')[0]}points: [a, b, c]\n", r", line 4: points has one value instead of a group"),
        (f"{GOOD.partition('points:')[0]}points: text\n", r", line 4: points has one value instead of a group"),
        (f"name: |\n  a\n  b\n{GOOD}", r", line 1: name is 'a\\nb'; it must be one line"),
        (f"name: ''\n{GOOD}", r", line 1: no name"),
        (f"name: !x a\n{GOOD}", r", line 1: the tag !x is not read"),
        (f"{GOOD}---\n{GOOD}", r": not YAML: expected a single document"),
        ("", ": no scale"),
        ("Is it right?", ": not a mapping"),
        ("[1, 2]", ": not a mapping"),
        (b"\x89PNG\r\n\x1a\n\0\0", r": not YAML: "),
        ("criterion: Größe?".encode("latin-1"), r": not YAML: "),
        (GOOD.encode("utf-16-le"), r": not YAML: "),
        ("[" * 10_000, DEEP),
        ("a: " + "{a: " * 3_000, DEEP),
    ],
)
def test_a_fault_is_one_line_with_file_and_line(content: str | bytes, fault: str) -> None:
    assert re.match(rf"mine\.yaml{fault}", fault_of(content)), fault_of(content)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (changed(points={"1": "a", "2": None, "3": "c"}), r", line 1: no points\.2"),
        (changed(points={"1": "a", "2": "\ud800", "3": "c"}), r", line 1: holds the character U\+D800"),
        (changed(points=["a", "b", "c"]), r", line 1: points has one value instead of a group"),
        (changed(scale=3), r", line 1: scale is '3'; it must be one of"),
        (changed(criterion=...), r": no criterion"),
        (changed()[:-2] + ', "1": "again"}}', r", line 1: points\.1 is set twice"),
        (changed()[:-1] + ', "scale": "1-3"}', r", line 1: scale is set twice"),
        (changed()[:-1], r": not JSON: Expecting ',' delimiter: line 1 column 176"),
        ('{\n\t"criterion": "Is it right?"\n\t"scale": "1-3"\n}', r": not JSON: Expecting ',' delimiter: line 3 column 2"),
        ("\t" + "[" * 100_000, r": not JSON: "),
        (b"{\xff}", r": not JSON: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_fault_of_a_json_file_is_one_line_too(content: str | bytes, fault: str) -> None:
    assert re.match(rf"mine\.json{fault}", fault_of(content, "mine.json")), fault_of(content, "mine.json")


def test_a_line_of_json_with_tabs_and_every_script_is_the_files() -> None:
    content = json.dumps(json.loads(changed(criterion="是\u2028吗？", weight=1)), indent="\t", ensure_ascii=False)
    line = content.split("\n").index('\t"weight": 1') + 1
    assert f"mine.json, line {line}: unknown key 'weight'" in fault_of(content, "mine.json")


@pytest.mark.parametrize(
    ("points", "fault"),
    [
        ({1: "a", "1": "b", 2: "c", 3: "d"}, "body: points describes 1 twice"),
        ({1: "a", 2.0: "c", 3: "d"}, "body: points describes 2.0, which is no point of the scale 1-3"),
        ({True: "a", 2: "c", 3: "d"}, "body: points describes True, which is no point of the scale 1-3"),
        ("abc", "body: no points: describe each point"),
        ({1: "a", 2: b"c", 3: "d"}, "body: points.2 is b'c', not text"),
        ({1: "a", 2: "\udc80", 3: "d"}, "body: points.2 holds the character U+DC80"),
    ],
)
def test_a_fault_of_a_mapping_begins_with_its_place(points: Any, fault: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(fault)}"):
        rubric_of(yaml.safe_load(GOOD) | {"points": points}, "body")


@pytest.mark.parametrize(
    ("word", "fault"),
    [
        ("helpfullness", r"grade\.rubric=helpfullness: no such rubric or file \(did you mean 'helpfulness'\?\); known are "),
        ("", r"grade\.rubric=: is a directory"),
        ("folder", r"grade\.rubric=folder: is a directory; name the file of a rubric"),
        ("gone.yaml", r"grade\.rubric=gone\.yaml: no such rubric or file; known are .*; or name a file"),
        ("good.yaml/x", r"grade\.rubric=good\.yaml/x: "),
        ("~no-such-user/x.yaml", r"grade\.rubric=~no-such-user/x\.yaml: cannot be read"),
        ("a\0b", r"grade\.rubric='a\\x00b': "),
        ("x" * 5_000, r"grade\.rubric='x+\.\.\.: cannot be read: File name too long"),
        (GOOD, r"grade\.rubric='criterion: Is it right\?\\n"),
        ('{"criterion": ', r"grade\.rubric holds no packed rubric"),
        ('{"criterion": "a", "scale": "1-7", "descriptions": []}', r"grade\.rubric holds no packed rubric"),
        ('{"criterion": "a", "scale": ["1-3"], "descriptions": []}', r"grade\.rubric holds no packed rubric"),
        ('{"criterion": "a", "scale": "binary", "descriptions": ["a"]}', r"grade\.rubric holds no packed rubric"),
        ('{"criterion": "a", "scale": "binary", "descriptions": "ab"}', r"grade\.rubric holds no packed rubric"),
        ('{"criterion": "a", "scale": "binary", "descriptions": ["a", 1]}', r"grade\.rubric: points\.1 is 1, not text"),
        (
            '{"criterion": "a", "scale": "binary", "descriptions": ["a", "b"], "inputs": [{}]}',
            r"grade\.rubric: inputs is \[\{\}\]",
        ),
        ('{"criterion": 7, "scale": "binary", "descriptions": ["a", "b"]}', r"grade\.rubric: criterion is 7, not text"),
        ('{"criterion": "a", "scale": "binary", "descriptions": ["a", "b"], "x": 1}', r"grade\.rubric: unknown key 'x'"),
    ],
)
def test_a_word_that_names_no_rubric_is_one_line(
    word: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "good.yaml").write_text(GOOD)
    with pytest.raises(ConfigError) as caught:
        rubric(word, "grade.rubric")
    assert re.match(fault, str(caught.value)), caught.value
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_without_rights_or_with_a_name_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "caf\udce9.yaml"
    file.write_text(GOOD)
    with pytest.raises(ConfigError, match=r"name holds the character U\+DCE9"):
        rubric(str(file), "rubric")
    file.write_text(f"name: cafe\n{GOOD}")
    assert rubric(str(file), "rubric").name == "cafe"


@pytest.mark.parametrize("name", library())
def test_the_librarys_rubrics_are_whole(name: str) -> None:
    value = rubric(name, "rubric")
    assert value.name == name
    assert re.fullmatch(r"[A-Z][^?]+\?", value.criterion), "one question"
    assert len(set(value.descriptions)) == len(value.points)
    assert len({re.sub(r"\W", "", text.lower()) for text in value.descriptions}) == len(value.points)
    assert all(len(text) > 30 for text in value.descriptions), "a description says what to look for"
    assert not re.search(r"\b(somewhat|mostly|very|fairly|quite)\b", " ".join(value.descriptions)), (
        "degrees are no descriptions"
    )
    assert rubric(value.packed, "rubric") == value


def test_the_library_uses_every_scale_and_every_input_and_no_rubric_twice() -> None:
    values = [rubric(name, "rubric") for name in library()]
    assert {value.scale for value in values} == set(SCALES)
    assert {name for value in values for name in value.inputs} == set(INPUTS)
    assert len({value.criterion for value in values}) == len({value.digest for value in values}) == len(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": "1-7"}, "rubric r: scale is '1-7'; it must be one of binary, 1-3, 1-5, 1-10"),
        ({"descriptions": ("No.",)}, "rubric r: 1 descriptions; describe each point of the scale binary"),
        ({"descriptions": ("No.", " ")}, "rubric r: 1 descriptions; describe each point"),
        ({"descriptions": ("No.", "Yes.", "")}, "rubric r: 2 descriptions; describe each point"),
        ({"inputs": ("instruction",)}, "rubric r: inputs are ('instruction',); name response"),
        ({"inputs": ("response", "answer")}, "rubric r: inputs are ('response', 'answer'); name response"),
    ],
)
def test_a_rubric_made_in_python_is_whole_too(change: dict[str, Any], message: str) -> None:
    whole: dict[str, Any] = {"name": "r", "criterion": "Is it true?", "scale": "binary", "descriptions": ("No.", "Yes.")}
    with pytest.raises(ConfigError, match=re.escape(message)):
        Rubric(**whole | change)
