"""Fine-tuning: from examples on disk to a model in Hugging Face's layout. `launch.train` is the entry; ranks run `loop`."""
