"""The `pggan` command, also as `python -m pggan`."""

from pggan.utils.startup import hide_torch_warnings, ignore_late_signals, remember_early_signals, set_thread_waiting


def main() -> None:
    """Entry point: does what has to be done before the command line, or torch, is imported."""
    remember_early_signals()
    set_thread_waiting()
    hide_torch_warnings()
    from pggan.cli import main as command_line

    try:
        command_line()
    finally:
        ignore_late_signals()


if __name__ == "__main__":
    main()
