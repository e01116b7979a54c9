"""The sinks that come with esper, one a file; each imports its library only when it is made."""
