"""The work behind the commands: many pictures, results written file by file."""
