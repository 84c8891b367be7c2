"""Chaos: a seeded killer takes engines, machines, ranks, drivers and heads while a small run goes on, and nothing may be wrong.

make chaos                          20 seeds, after an undisturbed run to compare with
python -m tests.chaos --seed 7      one seed again

plan.py        which faults strike, and where: all of it follows from the seed
processes.py   who can be struck: processes by the machine that they belong to
cluster.py     three machines of Ray on this one
driver.py      `stj`, with a journal of the rows that engines are asked
killer.py      drives one run to its end, and strikes on the way
invariants.py  what must hold at the end
report.py      faults, work redone and time, as JSON and as a table
"""
