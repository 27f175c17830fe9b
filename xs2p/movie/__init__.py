"""Movies: open them lazily, check them, chunk them; a format each."""

from xs2p.movie.open import open_movie

__all__ = ["open_movie"]
