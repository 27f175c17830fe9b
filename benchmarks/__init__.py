"""What xs2p's speed is measured with; not part of the package."""
