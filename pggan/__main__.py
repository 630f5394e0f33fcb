"""`python -m pggan`, the same as the `pggan` command."""

from pggan.cli import main

if __name__ == "__main__":
    main()
