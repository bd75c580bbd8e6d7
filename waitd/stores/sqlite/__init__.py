"""What only SQLite needs: its connection thread, the file lock and bulk statements."""
