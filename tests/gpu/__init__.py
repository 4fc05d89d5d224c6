"""What only a GPU can show; see `python -m tests.gpu --help`."""
