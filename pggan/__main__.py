"""The `pggan` command, also as `python -m pggan`."""

from pggan.utils.early_signals import ignore_late_signals, remember_early_signals


def main() -> None:
    """Entry point. Signals are remembered before the command line is imported, which takes a while."""
    remember_early_signals()
    from pggan.cli import main as command_line

    try:
        command_line()
    finally:
        ignore_late_signals()


if __name__ == "__main__":
    main()
