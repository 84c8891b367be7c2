"""Durations and sizes in words."""


def duration(seconds: float) -> str:
    """A duration for a reader: 2h11m, 12m, 40s."""
    minutes = round(seconds / 60)
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m" if minutes else f"{seconds:.0f}s"


def gigabytes(size: float) -> str:
    """A number of bytes in words: `0.0121 GB`, `3,250 GB`. A GB is 10^9 bytes."""
    return f"{size / 1e9:,.0f} GB" if size >= 1e11 else f"{size / 1e9:.3g} GB"


def so_far(activity: str, seconds: float) -> str:
    """What happens, and for how long already: `starting ranks (72s)`."""
    since = f"{seconds:.0f}s" if seconds < 120 else duration(seconds)  # a duration of 31 s is a minute
    return f"{activity} ({since})" if seconds >= 1 else activity
