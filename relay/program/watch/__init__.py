"""What the programs watch besides their sources and servers, and how they warn: users, and the halt of the machine."""
