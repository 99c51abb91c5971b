"""Values that every room may use: settings, sizes, times, names, alarms. Pure."""
