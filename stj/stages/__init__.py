"""The stages of section 3: async functions from a row to a row that may ask a model. They know neither Ray nor vLLM.

    categorize   an LLM names the category of an instruction (3.2)
    select       which instructions continue (3.2)
    pairs        a good answer and a worse one (3.3)
    judge        the A/B order of a pair (3.3), its judgments, and the one that is kept (3.4)
    sampling     how many judgments are sampled, at most N (3.4)
    vote         a trained judge at work: the verdict on a pair from both orders
    runner       runs the chain of stages of a row

A stage is tested with a scripted model.
"""
