"""Durations and sizes in words."""


def duration(seconds: float) -> str:
    """A duration for a reader: 2h11m, 12m, 40s."""
    minutes = round(seconds / 60)
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m" if minutes else f"{seconds:.0f}s"


def data_size(size: float) -> str:
    """A number of bytes in words: `3,250 GB`, `16.1 GB`, `12.1 MB`, `4 kB`, `40 bytes`. A GB is 10^9 bytes."""
    if size >= 1e11:
        return f"{size / 1e9:,.0f} GB"
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= 0.9995 * unit:  # 999,900 bytes are 1 MB: never 1e+03 kB
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} bytes"


def so_far(activity: str, seconds: float) -> str:
    """What happens, and for how long already: `starting ranks (72s)`."""
    since = f"{seconds:.0f}s" if seconds < 120 else duration(seconds)  # a duration of 31 s is a minute
    return f"{activity} ({since})" if seconds >= 1 else activity
