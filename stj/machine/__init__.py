"""What this machine has, and what each machine of a cluster must have: GPUs, their driver, packages, the run's directory."""
