"""What the request path costs, as a ratio to the floor measured in the same run: `python -m bench --help`."""
