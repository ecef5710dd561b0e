"""One adapter a kind of upstream, each a leaf that only the composition root imports."""
