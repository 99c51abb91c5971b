"""The watches of the programs, the messages to all users, and the request to halt the machine."""
