"""The network that grows: host, blueprints and the seed slot with its lifecycle."""
