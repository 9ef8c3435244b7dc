"""The command line: parses, calls, prints and exits; no logic."""
