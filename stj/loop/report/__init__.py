"""The report of a run: report.json for programs, report.html for people.

    page.py          the order of the page; its parts are what the modules below say
    headline.py      what the run gained, and whether that is noise
    judge_tables.py  how good each judge is        data_tables.py  the training data that it made
    changes.py       from judge to judge           failures.py     the pairs that a judge missed
    panel_tables.py  what other judges say of the training pairs
    losses.py        how each training went        costs.py        what each phase took
    settings.py      how the run differs from the defaults

A table is data (`stj.text.Table`): stj/loop/report_tables.py shows the same on a terminal.
"""

from stj.loop.report.headline import lift
from stj.loop.report.iteration import IterationReport
from stj.loop.report.page import Part, html, report_files, write_report

__all__ = ["IterationReport", "Part", "html", "lift", "report_files", "write_report"]
