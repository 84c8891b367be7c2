"""The engines that answer a stage: vLLM in its own process, vLLM beside its server, or a scripted one for tests."""
