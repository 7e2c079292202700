"""The command `tokenferry`: one module per command. Importing this package imports nothing else."""
