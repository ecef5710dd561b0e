"""Nothing is planted yet."""


def plant(name: str) -> None:
    """Plant one."""
