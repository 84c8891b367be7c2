"""What is on disk: folders, digests, artifacts, dataclasses in Arrow, and the lease that lets one driver into a directory."""
