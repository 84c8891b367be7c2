"""The attack cards of a run in its report: in the terminal, in JSON and on the page."""

import json
from dataclasses import replace
from pathlib import Path

from stj.evals.attack_card import AttackCard, AttackResult
from stj.loop.measures import BenchmarkReport
from stj.loop.report import IterationReport, html, write_report
from stj.loop.report.judge_tables import attack_table
from stj.loop.report_tables import WIDTH, tables
from stj.storage.folder import Folder
from tests.loop.test_report import iteration

RESULT = AttackResult(
    pairs=44,
    not_applicable=0,
    unjudged=0,
    right=66,
    flipped=0.848,
    flipped_ci95=(0.762, 0.924),
    flipped_to_none=0.5,
    accuracy_before=0.75,
    accuracy_after=0.159,
    accuracy_after_ci95=(0.1, 0.2),
)


def attacked(judge: str, card: AttackCard) -> IterationReport:
    report = BenchmarkReport(judged=572, attacks=card)
    return replace(
        iteration(judge, 0.7),
        benchmarks={"attacks": report},
        attacked={"padding": 300, "verdict": 17},
        attacked_accepted=0.88,
    )


def test_the_first_and_the_last_card_stand_side_by_side_within_the_width() -> None:
    whole = replace(RESULT, right=1_234, flipped=1.0, flipped_ci95=(1.0, 1.0), accuracy_after=1.0)
    none = replace(RESULT, right=0, flipped=None, flipped_ci95=None)
    judges = [
        attacked("M_0", {"padding": RESULT, "master_key_only": whole}),
        iteration("M_1", 0.8),
        attacked("M_2", {"padding": none, "master_key_only": whole}),
        attacked("M_3", {"padding": RESULT, "master_key_only": whole}),
    ]
    table = str(attack_table(judges))
    assert "M_0, %" in table
    assert "M_3, %" in table
    assert "M_2" not in table
    assert max(map(len, table.splitlines())) <= WIDTH
    assert "84.8 [76.2, 92.4]" in table
    shown = "\n".join(map(str, tables(judges)))
    assert table in shown
    assert "317 of 20,582 (padding 300, verdict 17); 88.0%" in shown


def test_a_run_without_cards_has_no_table_of_attacks() -> None:
    assert not attack_table([iteration("M_0", 0.7)]).rows
    assert "Attacks" not in html({}, [iteration("M_0", 0.7)])


def test_a_single_card_and_all_cards_are_on_the_page_and_in_json(tmp_path: Path) -> None:
    judges = [attacked("M_0", {"padding": RESULT})]
    assert str(attack_table(judges)).count("flipped") == 1
    judges += [attacked("M_1", {"padding": replace(RESULT, flipped=0.5)}), attacked("M_2", {"padding": RESULT})]
    write_report(Folder.at(tmp_path), {}, judges)
    record = json.loads((tmp_path / "report.json").read_text())
    cards = [judge["benchmarks"]["attacks"]["attacks"]["padding"] for judge in record["iterations"]]
    assert [card["flipped"] for card in cards] == [0.848, 0.5, 0.848]
    page = (tmp_path / "report.html").read_text()
    assert all(f'colspan="3">M_{judge}, %</th>' in page for judge in range(3))
    assert "50.0 <i>[76.2, 92.4]</i>" in page
    assert "Attacked pairs for M_1" in page
