"""Configuration: options, networks, losses, metrics, presets and the schedule, checked before torch is imported."""
