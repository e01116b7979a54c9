"""What the subcommands of ``esper`` do; the command line itself is in `esper.cli`."""
