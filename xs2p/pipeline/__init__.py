"""The whole job: checked once, extracted, finished, and stored."""
