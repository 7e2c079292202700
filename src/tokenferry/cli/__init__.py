"""The command `tokenferry`: thin, one file per command group. Importing this package imports nothing else."""
