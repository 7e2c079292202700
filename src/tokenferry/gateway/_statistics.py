from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatewayStatistics:
    """`held_bytes` is what request bodies take up in memory."""

    in_flight: int = 0
    streams: int = 0
    served: int = 0
    held_bytes: int = 0
    log_lines_dropped: int = 0
