"""The policy: which lifecycle action to take, as eight factored, masked heads."""
