"""Stages: async functions from a row to a row that may ask a model. They know neither Ray nor vLLM."""
