"""What every room uses: errors, formatting, files, devices, processes."""
