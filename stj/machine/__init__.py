"""What each machine of a cluster must have: a driver for its GPUs, the pinned packages, and a view of the run's directory."""
