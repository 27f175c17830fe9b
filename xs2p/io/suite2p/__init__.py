"""The folder of one plane as suite2p keeps it."""
