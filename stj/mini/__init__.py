"""The embedded default: a small world of facts and a tiny seed model. The whole loop runs in it for real on a laptop.

`world.py` is the world: entities with attributes, questions in several phrasings, and small talk for the categoriser to reject.
Its held-out facts appear in no judge, quote or check example. `corpus.py` writes the training texts, `curriculum.py` sets their
numbers and order, and `seed.py` trains.

The curriculum gives a 2M-parameter model the skills of a pretrained LLM: facts, formats, copying, comparing, and a few
demonstrations of a judgment. It leaves one skill to the loop: to recall the right fact inside a judgment.
"""
