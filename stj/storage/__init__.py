"""What is on disk: folders and object stores, digests of files, artifacts, and the lease of one driver a directory."""
