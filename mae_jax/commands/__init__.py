"""What each verb of the command line is: its function, flags, help and how its result reads."""
