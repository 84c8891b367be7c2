"""What answers a stage: vLLM in a process of its own, vLLM beside its server, or a scripted engine for tests."""
